//! The examples on nbdkit.

use std::process::Command;

use crate::{example, run};

/// Runs an example on what nbdkit serves, with the URI as its argument, as the comment of the
/// example shows.
fn on_nbdkit(server: &[&str], name: &str) -> String {
    let script = format!(r#"{} "$uri""#, example(name).display());
    let mut nbdkit = Command::new("nbdkit");
    nbdkit.args(["-U", "-"]).args(server);
    let (status, text, errors) = run(nbdkit.args(["--run", &script]));
    assert_eq!((status, &*errors), (0, ""), "{name}");
    text
}

#[test]
fn child_process_is_run_and_its_failure_told() {
    let (status, text, errors) = run(&mut Command::new(example("child_process")));
    assert_eq!((status, &*errors), (0, ""));
    assert!(text.contains("serves 67108864 bytes"), "{text}");
    assert!(text.contains("standard error: no such disk"), "{text}");
    assert!(text.contains("it ended with exit status: 3"), "{text}");
}

#[test]
fn read_and_write_reads_what_it_has_written() {
    let text = on_nbdkit(&["memory", "1M"], "read_and_write");
    assert!(text.contains("\nhello world\n"), "{text}");
    assert!(text.contains("Data { offset: 0, length: "), "{text}");
}

#[test]
fn extents_finds_data_and_holes() {
    let text = on_nbdkit(&["data", "@1048576 1 @2097152 1", "size=4M"], "extents");
    assert!(text.contains("hole,zero"), "{text}");
    assert!(text.contains(" of 4194304 bytes"), "{text}");
}

#[test]
fn many_tasks_write_and_read_back() {
    let text = on_nbdkit(&["memory", "64M"], "many_tasks");
    assert!(
        text.contains("1024 blocks written and read back by 64 tasks"),
        "{text}"
    );
}

#[test]
fn quickstart_verifies_every_byte() {
    let server = ["--seconds", "0.2", "--", "nbdkit", "-s", "memory", "64M"];
    let mut command = Command::new(example("quickstart"));
    let (status, text, errors) = run(command.args(server));
    assert_eq!((status, &*errors), (0, ""));
    assert!(text.contains("every byte as it should be"), "{text}");
}

#[test]
fn an_export_in_use_is_left_alone_and_the_server_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let server = format!("exec nbdkit -v -s data 1 size=1M 2>{}", log.display());
    let mut command = Command::new(example("quickstart"));
    let (status, _, errors) = run(command.args(["--tasks", "4", "--", "sh", "-c", &server]));
    assert_eq!(status, 1, "{errors}");
    assert!(errors.contains("not empty (data at byte 0)"), "{errors}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("NBD_CMD_DISC"), "{log}");
}
