//! Block sizes that a server insists on.

use nbd_client::{Connection, Error, InvalidRequest};

use super::connect;
use crate::disk::ten_gibibytes;
use crate::shared::random::Random;
use crate::shared::server::Server;

/// A server that refuses whatever does not keep to these sizes.
fn strict(maximum: &str) -> Vec<String> {
    [
        "--filter=blocksize-policy",
        "memory",
        "8M",
        "blocksize-minimum=4096",
        "blocksize-preferred=64K",
        &format!("blocksize-maximum={maximum}"),
        "blocksize-error-policy=error",
    ]
    .map(str::to_owned)
    .to_vec()
}

async fn connect_strict(maximum: &str) -> (Connection, Server) {
    let args = strict(maximum);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    connect(&args).await
}

// P-110: block sizes are requested with GO; P-111: block sizes bind who requested them.
both_runtimes!(block_sizes_are_what_the_server_advertises);
async fn block_sizes_are_what_the_server_advertises() {
    let (conn, _server) = connect_strict("4M").await;
    let sizes = conn.export().unwrap().block_size().unwrap();
    assert_eq!(sizes.minimum, 4096);
    assert_eq!(sizes.preferred, 64 << 10);
    assert_eq!(sizes.maximum, 4 << 20);
    assert_eq!(conn.export().unwrap().max_payload(), 4 << 20);
}

// P-116: the server would answer EINVAL to a message of more than its maximum.
both_runtimes!(requests_longer_than_the_maximum_are_split);
async fn requests_longer_than_the_maximum_are_split() {
    for maximum in ["4M", "1M"] {
        let (conn, _server) = connect_strict(maximum).await;
        let data = Random::new(3).bytes((8 << 20) - 4096);
        conn.write(4096, data.clone()).await.unwrap();
        let held = conn.read(4096, data.len()).await.unwrap();
        assert!(held == data, "with a maximum of {maximum}");
    }
}

// P-114: offset and length are whole blocks.
both_runtimes!(unaligned_requests_are_refused_without_asking_the_server);
async fn unaligned_requests_are_refused_without_asking_the_server() {
    let (conn, _server) = connect_strict("4M").await;
    for (offset, length) in [(1, 4096), (0, 4095), (512, 4096), (4096, 512)] {
        let results = [
            conn.read(offset, length).await.map(drop),
            conn.write(offset, vec![1; length]).await,
            conn.write_zeroes(offset, length as u64).await,
            conn.trim(offset, length as u64).await,
        ];
        for result in results {
            let error = result.unwrap_err();
            let expected = matches!(
                error,
                Error::Invalid(InvalidRequest::Unaligned {
                    alignment: 4096,
                    ..
                })
            );
            assert!(expected, "{error}");
        }
    }
    conn.read(4096, 4096).await.unwrap();
}

// P-112: what was not asked for is not known, and the server enforces it.
both_runtimes!(a_client_that_does_not_ask_for_block_sizes_is_corrected_by_the_server);
async fn a_client_that_does_not_ask_for_block_sizes_is_corrected_by_the_server() {
    let args = strict("4M");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Server::nbdkit(&args);
    let conn = Connection::builder().request_block_size(false).build();
    conn.connect_unix(server.socket()).await.unwrap();
    let error = super::request_error(conn.read(1, 512).await);
    assert_eq!(error.errno(), nbd_client::wire::Errno::EINVAL);
    conn.read(0, 4096).await.unwrap();
}

// P-121: the export may end inside a block.
both_runtimes!(the_tail_of_an_export_that_is_no_multiple_of_the_block_is_reached);
async fn the_tail_of_an_export_that_is_no_multiple_of_the_block_is_reached() {
    let (conn, _server) = connect(&[
        "--filter=blocksize-policy",
        "memory",
        "10000",
        "blocksize-minimum=512",
        "blocksize-preferred=4096",
        "blocksize-maximum=1M",
    ])
    .await;
    conn.write(9728, vec![7; 272]).await.unwrap();
    let data = conn.read(9728, 272).await.unwrap();
    assert_eq!(data, vec![7; 272]);
}

// P-117: nbdkit has compact headers only, and no limit of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_without_data_are_as_long_as_the_caller_likes() {
    let plain = ["memory", "16G"].map(str::to_owned).to_vec();
    let mut sized = strict("4M");
    sized[2] = "16G".to_owned();
    for args in [plain, sized] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (conn, _server) = connect(&args).await;
        assert!(!conn.protocol().unwrap().extended_headers);
        ten_gibibytes(&conn).await;
        conn.disconnect().await.unwrap();
    }
}

both_runtimes!(any_range_can_be_read_and_changed_where_the_server_insists_on_blocks);
async fn any_range_can_be_read_and_changed_where_the_server_insists_on_blocks() {
    let (conn, _server) = connect_strict("1M").await;
    let mut random = Random::new(5);
    let size = 8 << 20;
    let mut model = random.bytes(size);
    conn.write(0, model.clone()).await.unwrap();
    for round in 0..100u64 {
        let offset = random.below(size as u64 - 1);
        let most = if round % 10 == 0 { 3 << 20 } else { 9000 };
        let length = 1 + random.below(most.min(size as u64 - offset));
        let range = offset as usize..(offset + length) as usize;
        let data = random.bytes(length as usize);
        match round % 4 {
            0 => {
                conn.write_zeroes(offset, length).unaligned().await.unwrap();
                model[range.clone()].fill(0);
            }
            _ => {
                conn.write(offset, data.clone()).unaligned().await.unwrap();
                model[range.clone()].copy_from_slice(&data);
            }
        }
        let held = conn.read(offset, range.len()).unaligned().await.unwrap();
        assert!(held == model[range], "round {round}");
    }
    assert!(conn.read(0, size).await.unwrap() == model);
}

both_runtimes!(neighbours_in_a_block_are_changed_at_once_and_none_is_lost);
async fn neighbours_in_a_block_are_changed_at_once_and_none_is_lost() {
    let (conn, _server) = connect_strict("1M").await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8u64 {
        let conn = conn.clone();
        tasks.spawn(async move {
            let offset = 4096 + 100 + task * 700;
            for round in 0..100u64 {
                let data = vec![(round * 8 + task) as u8; 700];
                conn.write(offset, data.clone()).unaligned().await.unwrap();
                let held = conn.read(offset, 700).unaligned().await.unwrap();
                assert!(held == data, "task {task}, round {round}");
            }
        });
    }
    let all = async {
        while let Some(result) = tasks.join_next().await {
            result.unwrap();
        }
    };
    let result = tokio::time::timeout(std::time::Duration::from_secs(120), all).await;
    result.expect("they wait for each other");
}

both_runtimes!(zeroes_are_written_where_the_server_has_none);
async fn zeroes_are_written_where_the_server_has_none() {
    let (conn, _server) = connect(&["--filter=nozero", "memory", "8M"]).await;
    assert!(!conn.export().unwrap().can_zero());
    let mut model = Random::new(9).bytes(8 << 20);
    conn.write(0, model.clone()).await.unwrap();
    conn.write_zeroes(1000, 5 << 20).or_write().await.unwrap();
    model[1000..][..5 << 20].fill(0);
    assert!(conn.read(0, 8 << 20).await.unwrap() == model);
}
