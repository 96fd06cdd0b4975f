//! What the end-to-end tests share.

/// Makes a test of each function for each interpreter: `for_each_interpreter!(a_test, another);` where
/// `fn a_test(python: &Interpreter)`. Skipped where the interpreter or root's rights are missing.
#[macro_export]
macro_rules! for_each_interpreter {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            $crate::for_each_interpreter!(@one $test, py3_11, "py3.11");
            $crate::for_each_interpreter!(@one $test, py3_12, "py3.12");
            $crate::for_each_interpreter!(@one $test, py3_13, "py3.13");
            $crate::for_each_interpreter!(@one $test, debian3_11, "debian3.11");
        }
    )+};
    // Those that have nothing but the standard library, too.
    (bare: $($test:ident),+ $(,)?) => {$(
        mod $test {
            $crate::for_each_interpreter!(@bare $test);
        }
    )+};
    (@bare $test:ident) => {
        $crate::for_each_interpreter!(@one $test, py3_8, "py3.8");
        $crate::for_each_interpreter!(@one $test, py3_9, "py3.9");
        $crate::for_each_interpreter!(@one $test, py3_10, "py3.10");
        $crate::for_each_interpreter!(@one $test, py3_11, "py3.11");
        $crate::for_each_interpreter!(@one $test, py3_12, "py3.12");
        $crate::for_each_interpreter!(@one $test, py3_13, "py3.13");
        $crate::for_each_interpreter!(@one $test, debian3_9, "debian3.9");
        $crate::for_each_interpreter!(@one $test, debian3_11, "debian3.11");
        $crate::for_each_interpreter!(@one $test, debian3_13, "debian3.13");
        $crate::for_each_interpreter!(@one $test, debian3_14, "debian3.14");
        $crate::for_each_interpreter!(@one $test, debian3_15, "debian3.15");
        $crate::for_each_interpreter!(@one $test, shared3_15, "shared3.15");
    };
    // Those and the ones that are built when asked for.
    (stacks: $($test:ident),+ $(,)?) => {$(
        mod $test {
            $crate::for_each_interpreter!(@bare $test);
            $crate::for_each_interpreter!(@built $test);
        }
    )+};
    // Those that are built when asked for, alone.
    (built: $($test:ident),+ $(,)?) => {$(
        mod $test {
            $crate::for_each_interpreter!(@built $test);
        }
    )+};
    (@built $test:ident) => {
        $crate::for_each_interpreter!(@one $test, py3_13t, "py3.13t");
        $crate::for_each_interpreter!(@one $test, musl3_13, "musl3.13");
    };
    (@one $test:ident, $name:ident, $interpreter:literal) => {
        #[test]
        fn $name() {
            if !leak_tests::skip::is_root() {
                leak_tests::skip!("tracing needs root");
            }
            let Some(python) = leak_tests::interpreter::find($interpreter) else {
                leak_tests::skip!(
                    "{} isn't here; `cargo xtask setup` gets it, or builds it with --built",
                    $interpreter
                );
            };
            super::$test(&python);
        }
    };
}

/// Leaves the test unless it can trace; gives any interpreter.
#[macro_export]
macro_rules! any_python {
    () => {{
        if !leak_tests::skip::is_root() {
            leak_tests::skip!("tracing needs root");
        }
        let Some(python) = leak_tests::interpreter::all().into_iter().next() else {
            leak_tests::skip!("no interpreter is here; `cargo xtask setup` finds them");
        };
        python
    }};
}
