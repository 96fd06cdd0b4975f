use super::*;
use crate::units::Addr;

fn parsed(line: &str) -> Result<Invocation, clap::Error> {
    try_parse(std::iter::once("leaktrace").chain(line.split_whitespace()))
}

fn traced(line: &str) -> TraceOptions {
    match parsed(line).unwrap().command {
        Command::Trace(options) => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn defaults() {
    let o = traced("--pid 7");
    assert_eq!(o.pid, Pid(7));
    assert_eq!((o.duration, o.patience), (Duration::from_secs(30), Duration::from_secs(30)));
    assert!((o.budget - 0.01).abs() < 1e-12);
    assert!(
        !o.exact && o.native == Native::Top && !o.fail_on_leak && !o.quiet && o.lines.is_empty()
    );
    assert_eq!((o.min_size, o.format, o.output), (Bytes(0), Format::Text, None));
}

#[test]
fn every_option() {
    let o = traced(
        "-p 7 -d 2m --overhead 0.5% --min-size 4k --include /srv/* --include a.py --exclude b.py \
         --format json -o out.json --fail-on-leak -q",
    );
    assert_eq!((o.duration, o.patience), (Duration::from_secs(120), Duration::ZERO));
    assert!((o.budget - 0.005).abs() < 1e-12);
    assert_eq!(o.min_size, Bytes(4096));
    assert!(o.lines.allows("/srv/x.py") && o.lines.allows("a.py") && !o.lines.allows("/srv/b.py"));
    assert_eq!((o.format, o.output), (Format::Json, Some(PathBuf::from("out.json"))));
    assert!(o.fail_on_leak && o.quiet);
    assert!(traced("--pid 7 --exact").exact && !traced("--pid 7").children);
    assert!(traced("--pid 7 --children").children);
    let usual = (Duration::from_secs(30), Duration::from_secs(30));
    let tree = traced("--pid 7 --children");
    assert_eq!((tree.duration, tree.patience), usual);
    assert_eq!(traced("--pid 7 --exact").patience, Duration::ZERO);
    assert_eq!(traced("--pid 7 --native").native, Native::Whole);
    let view = View { by: By::Package, cumulative: true, top: 3 };
    assert_eq!(traced("--pid 7 --group-by package --cumulative --top 3").view, Some(view));
    let view = View { by: By::Type, ..View::default() };
    assert_eq!(traced("--pid 7 --group-by type").view, Some(view));
    assert!(parsed("--pid 7 --cumulative").is_err() && parsed("--pid 7 --top 3").is_err());
    assert_eq!(parsed("--pid 7 -vv").unwrap().verbosity, 2);
}

#[test]
fn doctor_with_and_without_a_process() {
    for (line, pid, format, verbosity) in [
        ("doctor", None, Format::Text, 0),
        ("doctor --pid 9 --format json", Some(Pid(9)), Format::Json, 0),
        ("doctor -v", None, Format::Text, 1),
    ] {
        let invocation = parsed(line).unwrap();
        let Command::Doctor(doctor) = invocation.command else { panic!("{line}") };
        assert_eq!((doctor.pid, doctor.format, invocation.verbosity), (pid, format, verbosity));
    }
}

#[test]
fn a_dump() {
    let dump = |line| match parsed(line).unwrap().command {
        Command::Dump(options) => options,
        other => panic!("{other:?}"),
    };
    let plain = DumpOptions { pid: Pid(7), native: false, format: Format::Text, output: None };
    assert_eq!(dump("dump --pid 7"), plain);
    let output = Some(PathBuf::from("x.json"));
    let json = DumpOptions { pid: Pid(7), native: true, format: Format::Json, output };
    assert_eq!(dump("dump -p 7 --native --format json -o x.json"), json);
}

#[test]
fn a_heap() {
    let heap = |line| match parsed(line).unwrap().command {
        Command::Heap(options) => options,
        other => panic!("{other:?}"),
    };
    let plain = HeapOptions {
        why: None,
        pid: Pid(7),
        top: 25,
        freeze: false,
        watch: None,
        rates: None,
        duration: None,
        format: HeapFormat::Text,
        output: None,
    };
    assert_eq!(heap("heap --pid 7"), plain);
    let output = Some(PathBuf::from("x.json"));
    let json = HeapOptions { top: 3, format: HeapFormat::Json, output, ..plain.clone() };
    assert_eq!(heap("heap -p 7 --top 3 --format json -o x.json"), json);
    let (watch, duration) = (Some(Duration::from_secs(5)), Some(Duration::from_secs(60)));
    let frozen = HeapOptions { freeze: true, ..plain.clone() };
    assert_eq!(heap("heap --pid 7 --freeze"), frozen);
    let why = |wanted, samples| HeapOptions { why: Some((wanted, samples)), ..plain.clone() };
    let class = Wanted::Type("app.Note".to_owned());
    assert_eq!(heap("heap --pid 7 --why app.Note"), why(class, 100));
    let drawn =
        HeapOptions { format: HeapFormat::Svg, ..why(Wanted::Type("app.Note".to_owned()), 100) };
    assert_eq!(heap("heap --pid 7 --why app.Note --format svg"), drawn);
    let object = Wanted::Object(Addr(0x7f12_3450));
    assert_eq!(heap("heap --pid 7 --why 0x7f123450 --samples 7"), why(object, 7));
    let watched = HeapOptions { watch, duration, ..plain };
    assert_eq!(heap("heap --pid 7 --watch 5s --duration 1m"), watched);
    let rates = |share| HeapOptions { rates: Some(share), ..watched.clone() };
    assert_eq!(heap("heap --pid 7 --watch 5s --duration 1m --rates"), rates(0.01));
    assert_eq!(heap("heap --pid 7 --watch 5s --duration 1m --rates --overhead 2%"), rates(0.02));
}

#[test]
fn errors_are_usage_errors_and_name_the_option() {
    for (line, word) in [
        ("", "--pid"),
        ("--pid x", "--pid"),
        ("--pid 7 --duration 0s", "--duration"),
        ("--pid 7 --overhead 90%", "--overhead"),
        ("--pid 7 --min-size big", "--min-size"),
        ("--pid 7 --format xml", "--format"),
        ("--pid 7 --include a[", "--include"),
        ("--pid 7 --exact --overhead 2%", "--overhead"),
        ("--pid 7 --exact --children", "--children"),
        ("--pid 7 -q -v", "--quiet"),
        ("--pid 7 doctor", "doctor"),
        ("dump", "--pid"),
        ("heap", "--pid"),
        ("heap --pid 7 --duration 5s", "--watch"),
        ("heap --pid 7 --freeze --watch 5s", "--watch"),
        ("heap --pid 7 --why x --watch 5s", "--watch"),
        ("heap --pid 7 --why 0xg", "0xg"),
        ("heap --pid 7 --why x --samples 0", "0"),
        ("heap --pid 7 --samples 5", "--why"),
        ("heap --pid 7 --rates", "--watch"),
        ("heap --pid 7 --watch 5s --overhead 2%", "--rates"),
        ("heap --pid 7 --format dot", "--why"),
        ("dump --pid 7 --duration 3s", "--duration"),
    ] {
        let error = parsed(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(word), "{line}: {error}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "-h", "--version", "doctor --help", "dump --help", "heap --help"] {
        assert_eq!(parsed(line).unwrap_err().exit_code(), 0, "{line}");
    }
    let help = parsed("--help").unwrap_err().to_string();
    for word in ["Examples:", "Exit codes:", "Privileges:", "CAP_PERFMON", "doctor"] {
        assert!(help.contains(word), "{word}");
    }
}
