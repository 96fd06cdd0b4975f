use super::*;
use crate::heap::testing::{LINES_OF, Python, interpreters};

/// Functions of all sorts under a name that is not ASCII; for each, what the interpreter says.
pub(crate) const PROGRAM: &str = "
import sys
source = '''
def outer():
    def inner(x):
        y = x

        return y + 1
    return inner

class Shop:
    def sell(self):
        return (
            self,
            self.price,
        )
    sort = lambda self: 0

def größe(a):
    for i in a: yield i

async def жук():
    await größe([])
'''
names = {}
exec(compile(source, '/srv/büro/蛇.py', 'exec'), names)
shop = names['Shop']
keep = [f.__code__ for f in (names['outer'], names['outer'](), shop.sell, shop.sort,
                             names['größe'], names['жук'])]
for code in keep:
    print(id(code), getattr(code, 'co_qualname', code.co_name), code.co_firstlineno,
          ','.join(str(line or code.co_firstlineno) for line in lines_of(code)[0]))
print('end')
print(id(type(keep[0])))
sys.stdin.readline()
bad = id(keep[1])
where = id(keep[0])
del code, keep, names, shop
made = [compile('def f(): pass', 'x%d' % i, 'exec') for i in range(3000)]
print(sum(id(c) == where for m in made for c in (m, *m.co_consts)))
sys.stdin.readline()
";

/// Address, qualified name, first line, line of each code unit.
pub(crate) type Said = (u64, String, u32, Vec<u32>);

pub(crate) fn read_said(python: &mut Python) -> (Vec<Said>, Addr) {
    let mut said = Vec::new();
    loop {
        let text = python.line();
        if text == "end" {
            break;
        }
        let words: Vec<&str> = text.split(' ').collect();
        let lines = words[3].split(',').map(|line| line.parse().unwrap()).collect();
        said.push((words[0].parse().unwrap(), words[1].into(), words[2].parse().unwrap(), lines));
    }
    (said, Addr(python.numbers()[0]))
}

#[test]
fn agrees_with_live_interpreters() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{LINES_OF}{PROGRAM}"));
        let (said, code_type) = read_said(&mut python);
        let names: Vec<&str> = said.iter().map(|(_, name, ..)| name.as_str()).collect();
        let expected = if layout.version >= (3, 11) {
            ["outer", "outer.<locals>.inner", "Shop.sell", "Shop.<lambda>"]
        } else {
            ["outer", "inner", "sell", "<lambda>"]
        };
        assert_eq!(names[..4], expected);
        assert_eq!(names[4..], ["größe", "жук"]);
        let memory = python.memory();
        let mut codes = CodeCache::new(layout, code_type);
        for (addr, name, first, lines) in &said {
            let code = codes.resolve(&memory, Addr(*addr)).unwrap();
            assert_eq!((&*code.function, &*code.file), (name.as_str(), "/srv/büro/蛇.py"));
            assert_eq!(code.first_line, *first);
            for (i, line) in lines.iter().enumerate() {
                assert_eq!(code.line(Some(2 * i as u64)), *line, "{}: {name} {i}", exe.display());
            }
            assert_eq!(code.line(None), *first);
        }
        assert_eq!(codes.len(), said.len());
        assert_eq!(codes.files.len(), 1, "the file's name is shared");
        let all = || said.iter().map(|(addr, ..)| Addr(*addr));
        codes.refer(all());
        assert!(codes.revalidate(&memory).all.is_empty());
        // A type, a wild pointer and NULL are no code objects.
        for addr in [code_type, Addr(said[0].0 + 8), Addr(0), Addr(u64::MAX)] {
            assert_eq!(codes.resolve(&memory, addr), None);
        }
        python.send("");
        let reused = python.numbers()[0];
        codes.refer(all());
        let replaced = codes.revalidate(&memory);
        println!("{}: {} replaced, {reused} at a known address", exe.display(), replaced.all.len());
        assert!(replaced.all.contains(&Addr(said[0].0)), "{}: it was freed", exe.display());
        assert_eq!(codes.len(), said.len() - replaced.all.len());
        assert_eq!(replaced.doubtful, replaced.all, "looked at before");
    }
}

#[test]
fn what_is_not_referred_to_is_looked_at_now_and_then() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{LINES_OF}{PROGRAM}"));
        let (said, code_type) = read_said(&mut python);
        let memory = python.memory();
        let mut codes = CodeCache::new(layout, code_type);
        let [first, second, ..] = &*said else { panic!("{said:?}") };
        for (addr, ..) in [first, second] {
            codes.resolve(&memory, Addr(*addr)).unwrap();
        }
        python.send("");
        python.line();
        codes.refer([Addr(first.0)].into_iter());
        let replaced = codes.revalidate(&memory);
        assert_eq!(replaced.all, HashSet::from([Addr(first.0)]), "{}", exe.display());
        assert!(replaced.doubtful.is_empty(), "it was read since the look before");
        let later = (1..).find(|_| !codes.revalidate(&memory).all.is_empty());
        assert_eq!((later, codes.len()), (Some(UNREFERRED), 0));
    }
}

#[test]
fn a_cache_that_is_full_starts_anew() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{LINES_OF}{PROGRAM}"));
        let (said, code_type) = read_said(&mut python);
        let memory = python.memory();
        let mut codes = CodeCache::new(layout, code_type);
        let (first, second) = (Addr(said[0].0), Addr(said[1].0));
        let code = codes.resolve(&memory, first).unwrap();
        for i in 1..2 * MAX_ENTRIES as u64 {
            let known = Known { code: Arc::clone(&code), read: 0, seen: 0, referred: false };
            codes.codes.insert(Addr(i), known);
        }
        assert_eq!(codes.resolve(&memory, second), None);
        let replaced = codes.revalidate(&memory);
        assert_eq!(replaced.all.len(), 2 * MAX_ENTRIES);
        assert!(codes.is_empty() && replaced.doubtful.is_empty());
        assert!(codes.resolve(&memory, second).is_some());
    }
}

/// Calls that make their cells, or the generator or coroutine that they are, before they begin.
const BEGINNINGS: &str = "
import dis, sys
source = '''
def plain(x): return x
def cells(x): return lambda: x
def generator(): yield 1
async def coroutine(): return 1
async def both(x): return lambda: x
'''
names = {}
exec(compile(source, 'beginnings.py', 'exec'), names)
for name in ('plain', 'cells', 'generator', 'coroutine', 'both'):
    code = names[name].__code__
    begins = [i.offset // 2 for i in dis.get_instructions(code) if i.opname == 'RESUME']
    print(id(code), begins[0] if begins else 0)
print('end')
print(id(type(code)))
sys.stdin.readline()
";

#[test]
fn calls_begin_where_python_traces_them() {
    for (path, layout) in interpreters() {
        let mut python = Python::run(&path, BEGINNINGS);
        let mut said: Vec<(u64, u32)> = Vec::new();
        loop {
            let text = python.line();
            let Some((at, begins)) = text.split_once(' ') else { break };
            said.push((at.parse().unwrap(), begins.parse().unwrap()));
        }
        let code_type = Addr(python.line().parse().unwrap());
        let mut codes = CodeCache::new(layout, code_type);
        for (at, begins) in &said {
            let code = codes.resolve(&python.memory(), Addr(*at)).unwrap();
            assert_eq!(
                code.fingerprint.first_traceable,
                *begins,
                "{} of {}",
                code.function,
                path.display()
            );
            assert!(code.has_begun(Some(u64::from(2 * begins))) && code.has_begun(None));
            assert_eq!(code.has_begun(Some(0)), *begins == 0);
        }
        assert_eq!(said.len(), 5);
        let makes_something = said.iter().filter(|(_, begins)| *begins > 0).count();
        let expected = if layout.version >= (3, 11) { 4 } else { 0 };
        assert_eq!(makes_something, expected, "{}", path.display());
    }
}
