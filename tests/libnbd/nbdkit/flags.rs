//! read-only-flag, read-write-flag and the eflags-* matrix: what the server can, the export says.

use nbd_client::{Connection, Error, Export};

use super::connect;

async fn export(plugin: &[&str]) -> Export {
    let conn = connect(Connection::builder(), plugin).await;
    conn.export().unwrap()
}

/// The export of an `eval` plugin with one more answer.
async fn answering(answer: &str) -> Export {
    let plugin = [
        "eval",
        "get_size=echo 1M",
        "pread=exit 1",
        "pwrite=exit 1",
        "flush=exit 1",
        "trim=exit 1",
        "zero=exit 1",
        "can_write=exit 0",
        answer,
    ];
    export(&plugin).await
}

both_runtimes!(server_that_reads_only_is_read_only);
async fn server_that_reads_only_is_read_only() {
    let conn = connect(Connection::builder(), &["-r", "memory", "1M"]).await;
    assert!(conn.export().unwrap().is_read_only());
    let error = conn.write(0, vec![1; 512]).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(error.errno(), Some(1));
    conn.read(0, 512).await.unwrap();

    let conn = connect(Connection::builder(), &["memory", "1M"]).await;
    assert!(!conn.export().unwrap().is_read_only());
    conn.write(0, vec![1; 512]).await.unwrap();
}

both_runtimes!(each_flag_follows_what_the_plugin_answers);
async fn each_flag_follows_what_the_plugin_answers() {
    type Flag = fn(&Export) -> bool;
    let yes_or_no: [(&str, Flag); 5] = [
        ("can_flush", Export::can_flush),
        ("can_trim", Export::can_trim),
        ("can_multi_conn", Export::can_multi_conn),
        ("is_rotational", Export::is_rotational),
        ("can_fast_zero", Export::can_fast_zero),
    ];
    for (question, flag) in yes_or_no {
        for (code, answer) in [(0, true), (3, false)] {
            let export = answering(&format!("{question}=exit {code}")).await;
            assert_eq!(flag(&export), answer, "{question}");
        }
    }
}

both_runtimes!(fua_and_cache_may_be_emulated);
async fn fua_and_cache_may_be_emulated() {
    for (answer, fua) in [("none", false), ("emulate", true), ("native", true)] {
        let export = answering(&format!("can_fua=echo {answer}")).await;
        assert_eq!(export.can_fua(), fua, "{answer}");
    }
    for (answer, cache) in [("none", false), ("emulate", true), ("native", true)] {
        let export = answering(&format!("can_cache=echo {answer}")).await;
        assert_eq!(export.can_cache(), cache, "{answer}");
    }
}

both_runtimes!(zeroes_can_be_emulated_but_not_on_what_cannot_be_written);
async fn zeroes_can_be_emulated_but_not_on_what_cannot_be_written() {
    assert!(answering("can_zero=exit 3").await.can_zero());
    let filtered = ["--filter=nozero", "memory", "1M"];
    assert!(!export(&filtered).await.can_zero());
    let read_only = export(&["-r", "memory", "1M"]).await;
    assert!(!read_only.can_zero() && !read_only.can_trim() && !read_only.can_fua());
}

// P-062: dependent features need structured replies.
both_runtimes!(fragments_can_be_forbidden_only_with_structured_replies);
async fn fragments_can_be_forbidden_only_with_structured_replies() {
    assert!(export(&["memory", "1M"]).await.can_df());
    assert!(!export(&["--no-sr", "memory", "1M"]).await.can_df());
    assert!(!export(&["-o", "memory", "1M"]).await.can_df());
    let simple = Connection::builder().structured_replies(false);
    let conn = connect(simple, &["memory", "1M"]).await;
    assert!(!conn.export().unwrap().can_df());
}
