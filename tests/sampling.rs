//! Stacks of odd shapes under the modes that walk them: programs behave as bare.
//! The programs that prove the C side run in these modes as well, in `preload.rs`.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{assert_same, each_shape_of_stack, has_tool, preload_library, run_within, workspace};

const PATIENCE: Duration = Duration::from_secs(120);

/// What the core is told. Samples are taken every few hundred bytes.
const MODES: [&[(&str, &str)]; 2] = [
    &[
        ("HEAPLEDGER_MODE", "sample"),
        ("HEAPLEDGER_SAMPLE_BYTES", "300"),
    ],
    &[("HEAPLEDGER_MODE", "full")],
];

/// Runs a command bare and under the preload, in each mode: all do the same.
fn runs_as_bare(directory: &Path, command: impl Fn() -> Command) {
    let bare = run_within(PATIENCE, &mut command());
    for variables in MODES {
        let ledgers = directory.join(format!("ledgers-{}", variables[0].1));
        fs::create_dir(&ledgers).expect("the workspace is writable");
        let booked = run_within(
            PATIENCE,
            command()
                .env("LD_PRELOAD", preload_library())
                .env("HEAPLEDGER_DIR", &ledgers)
                .envs(variables.iter().copied()),
        );
        assert_same(&bare, &booked);
        let found = fs::read_dir(&ledgers).expect("ledgers").count();
        assert!(found > 0, "no ledger: {variables:?}");
    }
}

#[test]
fn stacks_of_all_shapes_are_survived() {
    let directory = workspace("sampling_shapes");
    each_shape_of_stack(&directory, |place, command| runs_as_bare(place, command));
}

const OVERFLOW: &str = "
public class Overflow {
    static int depth;
    static void down() { depth++; down(); }
    public static void main(String[] words) throws Exception {
        for (int round = 0; round < 5; round++) {
            try { down(); } catch (StackOverflowError error) { System.out.println(\"caught\"); }
        }
        Thread thread = new Thread(() -> {
            try { down(); } catch (StackOverflowError error) { System.out.println(\"caught\"); }
        });
        thread.start();
        thread.join();
        System.out.println(depth > 1000);
    }
}
";

#[test]
fn a_jvm_still_gets_its_stack_overflow_errors() {
    let test = "a_jvm_still_gets_its_stack_overflow_errors";
    needs!(test, has_tool("javac"), "javac");
    let directory = workspace(test);
    fs::write(directory.join("Overflow.java"), OVERFLOW).expect("the workspace is writable");
    let built = run_within(
        PATIENCE,
        Command::new("javac")
            .arg("Overflow.java")
            .current_dir(&directory),
    );
    assert!(built.status.success(), "{built:?}");
    runs_as_bare(&directory, || {
        let mut command = Command::new("java");
        command
            .args(["-Xmx64m", "-cp", ".", "Overflow"])
            .current_dir(&directory);
        command
    });
}
