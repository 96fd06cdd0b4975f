// A library that builds strings: most are dropped, one grows with every request.
#include <cstddef>
#include <string>
#include <vector>

static std::vector<std::string> journal;

__attribute__((noinline)) static std::size_t format(std::size_t number)
{
    std::string line;
    for (int i = 0; i < 60; i++)
        line += "request " + std::to_string(number) + ", ";
    return line.size();
}

__attribute__((noinline)) static std::size_t record(std::size_t number)
{
    std::string line(700, 'x');
    line += std::to_string(number);
    journal.push_back(std::move(line));
    return journal.size();
}

extern "C" std::size_t handle(std::size_t number, int keep)
{
    std::size_t sum = 0;
    for (int i = 0; i < 10; i++)
        sum += format(number + i);
    if (keep)
        sum += record(number);
    return sum;
}
