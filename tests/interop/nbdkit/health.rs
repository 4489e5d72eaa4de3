//! Whether a server answers.

use super::connect;

both_runtimes!(a_server_answers_whatever_its_disk_is_like);
async fn a_server_answers_whatever_its_disk_is_like() {
    for args in [
        &["memory", "1M"][..],
        &["memory", "0"],
        &["memory", "100"],
        &["--filter=error", "memory", "1M", "error-pread-rate=100%"],
        &[
            "--filter=blocksize-policy",
            "memory",
            "1M",
            "blocksize-minimum=64K",
            "blocksize-preferred=64K",
            "blocksize-maximum=1M",
        ],
    ] {
        let (conn, _server) = connect(args).await;
        conn.ping().await.unwrap();
        conn.ping().await.unwrap();
    }
}

both_runtimes!(a_write_that_was_given_up_is_over_once_all_is_settled);
async fn a_write_that_was_given_up_is_over_once_all_is_settled() {
    let args = ["--filter=delay", "memory", "1M", "delay-write=50ms"];
    let (conn, _server) = connect(&args).await;
    for _ in 0..5 {
        drop(conn.write(0, vec![1; 4096]).submit());
        conn.settled().await.unwrap();
        assert_eq!(conn.in_flight(), 0);
        let held = conn.read(0, 4096).await.unwrap();
        assert!(held[..] == [1; 4096]);
        conn.write(0, vec![0; 4096]).await.unwrap();
    }
}
