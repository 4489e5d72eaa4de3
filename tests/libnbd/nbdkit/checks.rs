//! errors-*, pwrite-extended: what is refused on this side, and what the server makes of it
//! otherwise.

use futures::TryStreamExt;
use nbd_client::wire::{Command, CommandFlags};
use nbd_client::{Connection, Error, InvalidRequest, State, Strict};

use super::connect;
use crate::shared::server::Server;

/// A server that insists on blocks of 512 bytes, and on no more than 16 MiB at a time.
const BLOCKS: [&str; 7] = [
    "--filter=blocksize-policy",
    "memory",
    "64M",
    "blocksize-minimum=512",
    "blocksize-preferred=4096",
    "blocksize-maximum=16M",
    "blocksize-error-policy=error",
];

both_runtimes!(empty_command_leaves_the_handle_as_it_was);
async fn empty_command_leaves_the_handle_as_it_was() {
    let conn = Connection::new();
    let nothing: [&str; 0] = [];
    let error = conn.connect_command(nothing).await.unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
    let error = conn
        .connect_systemd_socket_activation(nothing)
        .await
        .unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
    assert!(conn.is_created());
    conn.connect_command(["nbdkit", "-s", "null", "1M"])
        .await
        .unwrap();
}

both_runtimes!(handle_is_connected_once);
async fn handle_is_connected_once() {
    let server = Server::nbdkit(&["null", "1M"]);
    let conn = Connection::new();
    conn.connect_unix(server.socket()).await.unwrap();
    let error = conn.connect_unix(server.socket()).await.unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
    conn.flush().await.unwrap();
}

both_runtimes!(commands_before_connecting_are_errors);
async fn commands_before_connecting_are_errors() {
    let conn = Connection::new();
    let base = [
        conn.read(0, 512).await.map(drop),
        conn.write(0, vec![0; 512]).await,
        conn.flush().await,
        conn.trim(0, 512).await,
        conn.write_zeroes(0, 512).await,
        conn.cache(0, 512).await,
        conn.block_status(0, 512).await.map(drop),
        conn.read_structured(0, 512).try_next().await.map(drop),
        conn.extents("base:allocation", ..)
            .try_next()
            .await
            .map(drop),
        conn.opt_list().await.map(drop),
        conn.opt_go().await,
        conn.size().map(drop),
        conn.disconnect().await,
    ];
    for (number, result) in base.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert_eq!(error.errno(), Some(107), "{number}: {error}");
        let created = matches!(
            error,
            Error::Invalid(InvalidRequest::State {
                state: State::Created,
                ..
            })
        );
        assert!(created, "{number}: {error}");
    }
}

both_runtimes!(options_need_option_mode);
async fn options_need_option_mode() {
    let conn = connect(Connection::builder(), &["null", "1M"]).await;
    let none: [&str; 0] = [];
    for result in [
        conn.opt_list().await.map(drop),
        conn.opt_info().await.map(drop),
        conn.opt_go().await,
        conn.opt_abort().await,
        conn.opt_structured_reply().await.map(drop),
        conn.opt_extended_headers().await.map(drop),
        conn.opt_list_meta_context(none).await.map(drop),
        conn.opt_set_meta_context(none).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.errno(), Some(22), "{error}");
        assert!(error.to_string().contains("ready"), "{error}");
    }
    conn.read(0, 512).await.unwrap();
}

both_runtimes!(commands_need_more_than_option_mode);
async fn commands_need_more_than_option_mode() {
    let conn = connect(Connection::builder().opt_mode(true), &["null", "1M"]).await;
    let error = conn.read(0, 512).await.unwrap_err();
    assert_eq!(error.errno(), Some(22), "{error}");
    assert!(error.to_string().contains("negotiating"), "{error}");
    conn.opt_go().await.unwrap();
    conn.read(0, 512).await.unwrap();
}

// P-001: strings that are sent have no NUL and at most 4096 bytes.
both_runtimes!(names_that_are_too_long_are_errors);
async fn names_that_are_too_long_are_errors() {
    let conn = Connection::new();
    let (fits, long) = ("x:".to_owned() + &"y".repeat(4094), "x".repeat(4097));
    for result in [conn.set_export_name(&*long), conn.add_meta_context(&*long)] {
        assert_eq!(result.unwrap_err().errno(), Some(36));
    }
    assert!(conn.set_export_name("a\0").is_err());
    conn.set_export_name(&*fits).unwrap();
    conn.add_meta_context(&*fits).unwrap();
    let built = Connection::builder().export_name(&*long).build();
    let error = built.connect_command(["nbdkit", "-s", "null"]).await;
    assert_eq!(error.unwrap_err().errno(), Some(36));
    assert!(built.is_created());

    let conn = connect(Connection::builder().opt_mode(true), &["null"]).await;
    for result in [
        conn.opt_list_meta_context([&*long]).await,
        conn.opt_set_meta_context([&*long]).await,
    ] {
        assert_eq!(result.unwrap_err().errno(), Some(36));
    }
    assert!(conn.is_negotiating());
}

both_runtimes!(requests_that_are_not_offered_are_refused_here_or_there);
async fn requests_that_are_not_offered_are_refused_here_or_there() {
    let plugin = ["eval", "get_size=echo 1M", "pread=exit 1"];
    let conn = connect(Connection::builder(), &plugin).await;
    for strict in [Strict::all(), Strict::all() - Strict::COMMANDS] {
        conn.set_strict(strict);
        let ours = strict == Strict::all();
        for (result, errno) in [
            (conn.trim(0, 512).await, [22, 1]),
            (conn.write(0, vec![0; 512]).await, [1, 1]),
        ] {
            let error = result.unwrap_err();
            assert_eq!(matches!(error, Error::Invalid(_)), ours, "{error}");
            assert_eq!(error.errno(), Some(errno[usize::from(!ours)]), "{error}");
        }
        assert!(conn.is_ready());
    }
}

// P-114: offset and length are whole blocks.
both_runtimes!(unaligned_requests_are_refused_here_or_there);
async fn unaligned_requests_are_refused_here_or_there() {
    let conn = connect(Connection::builder(), &BLOCKS).await;
    assert_eq!(conn.export().unwrap().block_size().unwrap().minimum, 512);
    for strict in [Strict::all(), Strict::all() - Strict::ALIGN] {
        conn.set_strict(strict);
        for result in [
            conn.read(1, 512).await.map(drop),
            conn.read(0, 100).await.map(drop),
            conn.trim(512, 1).await,
        ] {
            let error = result.unwrap_err();
            let is_ours = matches!(error, Error::Invalid(InvalidRequest::Unaligned { .. }));
            assert_eq!(is_ours, strict == Strict::all(), "{error}");
            assert_eq!(error.errno(), Some(22));
        }
        conn.read(512, 512).await.unwrap();
    }
}

// P-134: only flags documented for the command.
both_runtimes!(unknown_flags_are_refused_here_or_there);
async fn unknown_flags_are_refused_here_or_there() {
    let conn = connect(Connection::builder(), &["memory", "1M"]).await;
    let unknown = CommandFlags::from_bits_retain(1 << 15);
    for strict in [Strict::all(), Strict::all() - Strict::FLAGS] {
        conn.set_strict(strict);
        let error = conn.read(0, 512).flags(unknown).await.unwrap_err();
        let wrong = InvalidRequest::WrongFlags {
            command: Command::READ,
            flags: unknown,
        };
        let is_ours = matches!(&error, Error::Invalid(error) if *error == wrong);
        assert_eq!(is_ours, strict == Strict::all(), "{error}");
        assert_eq!(error.errno(), Some(22));
        conn.read(0, 512).await.unwrap();
    }
}

// P-139: the length is not zero. libnbd refuses such requests itself; here they succeed.
both_runtimes!(requests_of_nothing_are_answered_here_or_refused_there);
async fn requests_of_nothing_are_answered_here_or_refused_there() {
    let conn = connect(Connection::builder(), &["memory", "1M"]).await;
    for strict in [Strict::all(), Strict::all() - Strict::ZERO_SIZE] {
        conn.set_strict(strict);
        let sent = conn.stats().messages_sent;
        for result in [
            conn.read(0, 0).await.map(drop),
            conn.write(0, vec![]).await,
            conn.trim(0, 0).await,
            conn.write_zeroes(0, 0).await,
        ] {
            match result {
                Ok(()) => assert_eq!(strict, Strict::all()),
                Err(error) => assert!(matches!(error, Error::Request(_)), "{error}"),
            }
        }
        let asked = conn.stats().messages_sent - sent;
        assert_eq!(asked, if strict == Strict::all() { 0 } else { 4 });
        conn.read(0, 512).await.unwrap();
    }
}

// P-115: the range lies inside the export.
both_runtimes!(requests_beyond_the_end_are_refused_here_or_there);
async fn requests_beyond_the_end_are_refused_here_or_there() {
    let conn = connect(Connection::builder(), &["memory", "1M"]).await;
    for strict in [Strict::all(), Strict::all() - Strict::BOUNDS] {
        conn.set_strict(strict);
        for (result, errno) in [
            (conn.read(1 << 20, 512).await.map(drop), 22),
            (conn.trim((1 << 20) - 1, 2).await, 28),
            (conn.write(1 << 20, vec![0; 512]).await, 28),
        ] {
            let error = result.unwrap_err();
            let is_ours = matches!(error, Error::Invalid(InvalidRequest::OutOfBounds { .. }));
            assert_eq!(is_ours, strict == Strict::all(), "{error}");
            // nbdkit says EINVAL where only the offset is wrong.
            assert!(!is_ours || error.errno() == Some(errno), "{error}");
        }
        conn.read(0, 512).await.unwrap();
    }
}

// P-116. libnbd refuses what is too large; here it is sent in parts.
both_runtimes!(large_writes_are_sent_in_parts_or_the_server_has_its_say);
async fn large_writes_are_sent_in_parts_or_the_server_has_its_say() {
    let conn = connect(Connection::builder(), &BLOCKS).await;
    assert_eq!(conn.export().unwrap().max_payload(), 16 << 20);
    conn.write(0, vec![0; 17 << 20]).await.unwrap();
    conn.set_strict(Strict::all() - Strict::PAYLOAD);
    let error = conn.write(0, vec![0; 17 << 20]).await.unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error}");
    assert_eq!(error.errno(), Some(22));
    conn.read(0, 512).await.unwrap();
}

// PAYLOAD_LEN announces a payload.
both_runtimes!(payload_flag_without_extended_headers_is_the_servers_to_refuse);
async fn payload_flag_without_extended_headers_is_the_servers_to_refuse() {
    let conn = connect(Connection::builder(), &["memory", "1M"]).await;
    let flag = CommandFlags::PAYLOAD_LEN;
    // Put right.
    conn.write(0, vec![1; 512]).flags(flag).await.unwrap();
    // Left wrong, and refused here.
    conn.set_strict(Strict::all() - Strict::AUTO_FLAG);
    let error = conn.write(0, vec![1; 512]).flags(flag).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    // And there.
    conn.set_strict(Strict::all() - Strict::AUTO_FLAG - Strict::COMMANDS);
    let error = conn.write(0, vec![1; 512]).flags(flag).await.unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error}");
    assert_eq!(error.errno(), Some(22));
    conn.write(0, vec![1; 512]).await.unwrap();
}
