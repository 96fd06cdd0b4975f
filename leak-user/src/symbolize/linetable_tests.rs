use proptest::prelude::*;

use super::*;
use crate::heap::testing::{LINES_OF, Python, interpreters};

/// One entry as the compiler would write it.
#[derive(Debug, Clone)]
struct Entry {
    units: u8,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Short,
    OneLine(u8),
    NoColumn(i32),
    Long(i32, u32),
    None,
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 64 {
        out.push(64 | (value & 63) as u8);
        value >>= 6;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i32) {
    let magnitude = u64::from(value.unsigned_abs()) << 1;
    number(out, magnitude | u64::from(value < 0));
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for Entry { units, form } in entries {
        let code = match form {
            Form::Short => 3,
            Form::OneLine(delta) => 10 + delta,
            Form::NoColumn(_) => 13,
            Form::Long(..) => 14,
            Form::None => 15,
        };
        out.push(0x80 | code << 3 | (units - 1));
        match form {
            Form::Short => out.push(0x42),
            Form::OneLine(_) => out.extend([7, 9]),
            Form::NoColumn(delta) => signed(&mut out, *delta),
            Form::Long(delta, column) => {
                signed(&mut out, *delta);
                number(&mut out, 0);
                number(&mut out, (*column).into());
                number(&mut out, 1000);
            }
            Form::None => {}
        }
    }
    out
}

fn entry() -> impl Strategy<Value = Entry> {
    let form = prop_oneof![
        Just(Form::Short),
        (0_u8..3).prop_map(Form::OneLine),
        (-3000_i32..3000).prop_map(Form::NoColumn),
        ((-3000_i32..3000), 0_u32..100_000).prop_map(|(delta, column)| Form::Long(delta, column)),
        Just(Form::None),
    ];
    (1_u8..=8, form).prop_map(|(units, form)| Entry { units, form })
}

proptest! {
    #[test]
    fn round_trip(first in 100_000_u32..200_000, entries in prop::collection::vec(entry(), 0..30)) {
        let table = encode(&entries);
        let (mut at, mut current) = (0, i64::from(first));
        for Entry { units, form } in &entries {
            let expected = match form {
                Form::None => None,
                Form::Short => Some(current),
                Form::OneLine(delta) => { current += i64::from(*delta); Some(current) }
                Form::NoColumn(delta) | Form::Long(delta, _) => {
                    current += i64::from(*delta);
                    Some(current)
                }
            };
            let expected = expected.map(|line| u32::try_from(line).unwrap());
            for _ in 0..*units {
                prop_assert_eq!(line(Lines::Locations, &table, first, at), expected);
                prop_assert_eq!(line(Lines::Locations, &table, first, at + 1), expected);
                at += 2;
            }
        }
        prop_assert_eq!(line(Lines::Locations, &table, first, at), None);
    }

    #[test]
    fn garbage_ends(
        table in prop::collection::vec(any::<u8>(), 0..300), first: u32, at: u64,
    ) {
        for form in [Lines::Lnotab, Lines::Pairs, Lines::Locations] {
            let _ = line(form, &table, first, at);
            prop_assert!(ranges(form, &table, first).count() <= table.len() + 1);
        }
    }
}

#[test]
fn a_number_that_never_ends_is_no_number() {
    let mut table = vec![0x80 | 13 << 3];
    table.extend([0x7f; 40]);
    assert_eq!(line(Lines::Locations, &table, 1, 0), None);
}

/// Compiles modules of the standard library and prints every code object's table with the line of
/// each code unit, as the interpreter itself reads it.
const PROGRAM: &str = "
import os, glob, types
root = os.path.dirname(os.__file__)
files = sorted(glob.glob(root + '/*.py'))[:60] + sorted(glob.glob(root + '/asyncio/*.py'))
def walk(code):
    lines, table = lines_of(code)
    print(code.co_firstlineno, table.hex() or '-',
          ','.join('-' if l is None else str(l) for l in lines))
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            walk(c)
for f in files:
    walk(compile(open(f, 'rb').read(), f, 'exec'))
print('end')
";

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn agrees_with_live_interpreters() {
    for (exe, layout) in interpreters() {
        let form = layout.code.lines;
        let mut python = Python::run(&exe, &format!("{LINES_OF}{PROGRAM}"));
        let (mut tables, mut offsets) = (0, 0);
        loop {
            let text = python.line();
            if text == "end" {
                break;
            }
            let mut words = text.split(' ');
            let first: u32 = words.next().unwrap().parse().unwrap();
            let table = words.next().filter(|hex| *hex != "-").map_or_else(Vec::new, unhex);
            let expected: Vec<Option<u32>> =
                words.next().unwrap().split(',').map(|word| word.parse().ok()).collect();
            let units = expected.len();
            let found: Vec<Option<u32>> = ranges(form, &table, first)
                .flat_map(|r| std::iter::repeat_n(r.line, ((r.end - r.start) / 2) as usize))
                .take(units)
                .collect();
            assert_eq!(found, expected, "{}: {text}", exe.display());
            for (i, expected) in expected.iter().enumerate().step_by(7) {
                assert_eq!(line(form, &table, first, 2 * i as u64), *expected);
            }
            tables += 1;
            offsets += found.len();
        }
        println!("{}: {tables} tables, {offsets} code units agree", exe.display());
        assert!(tables > 1000, "{}", exe.display());
    }
}
