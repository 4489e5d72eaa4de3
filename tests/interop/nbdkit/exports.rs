//! Exports by name, and lists of them.

use nbd_client::wire::OptionReplyType;
use nbd_client::{Connection, Error};

use crate::shared::server::{Dir, Server};

const NAMED: [&str; 9] = [
    "--filter=exportname",
    "memory",
    "1M",
    "exportname=a",
    "exportname=b",
    "exportname-list=explicit",
    "exportname-strict=true",
    "exportdesc=fixed:hi",
    "default-export=a",
];

async fn negotiating(server: &Server) -> Connection {
    let conn = Connection::builder().opt_mode(true).build();
    conn.connect_unix(server.socket()).await.unwrap();
    assert!(conn.is_negotiating());
    conn
}

// P-041: SERVER replies end with ACK or an error; P-042: the name fits its reply.
both_runtimes!(a_list_has_every_name_with_its_description);
async fn a_list_has_every_name_with_its_description() {
    let server = Server::nbdkit(&NAMED);
    let conn = negotiating(&server).await;
    let list = conn.opt_list().await.unwrap();
    let list: Vec<_> = list
        .iter()
        .map(|export| (export.name.as_str(), export.description.as_str()))
        .collect();
    assert_eq!(list, [("a", "hi"), ("b", "hi")]);
    conn.opt_abort().await.unwrap();
}

// P-052: a refusal leaves negotiation usable.
both_runtimes!(a_name_that_does_not_exist_is_refused_and_another_one_is_entered);
async fn a_name_that_does_not_exist_is_refused_and_another_one_is_entered() {
    let server = Server::nbdkit(&NAMED);
    let conn = negotiating(&server).await;
    conn.set_export_name("nobody").unwrap();
    let Error::Refused(refusal) = conn.opt_go().await.unwrap_err() else {
        panic!("not a refusal");
    };
    assert_eq!(refusal.reply(), OptionReplyType::ERR_UNKNOWN);
    assert!(conn.is_negotiating());
    conn.set_export_name("b").unwrap();
    conn.opt_go().await.unwrap();
    assert_eq!(conn.export().unwrap().name(), "b");
    conn.read(0, 512).await.unwrap();
}

// P-055: the empty name is the default export; P-057: the canonical name may differ.
both_runtimes!(the_default_export_says_its_canonical_name_and_description);
async fn the_default_export_says_its_canonical_name_and_description() {
    let args = NAMED.map(|word| word.replace("strict=true", "strict=false"));
    let server = Server::nbdkit(&args.each_ref().map(String::as_str));
    let conn = Connection::builder().full_info(true).build();
    conn.connect_unix(server.socket()).await.unwrap();
    let export = conn.export().unwrap();
    assert_eq!(export.name(), "");
    assert_eq!(export.canonical_name(), Some("a"));
    assert_eq!(export.description().unwrap().as_str(), "hi");
}

both_runtimes!(each_file_of_a_directory_is_an_export);
async fn each_file_of_a_directory_is_an_export() {
    let dir = Dir::new();
    dir.file("eins", vec![1; 4096]);
    dir.file("zwei", vec![2; 8192]);
    dir.file("über ß", vec![3; 512]);
    let server = Server::nbdkit(&["file", &format!("dir={}", dir.path(""))]);
    let list = negotiating(&server).await.opt_list().await.unwrap();
    let mut names: Vec<_> = list.into_iter().map(|export| export.name).collect();
    names.sort();
    assert_eq!(names, ["eins", "zwei", "über ß"]);
    for (name, size, byte) in [("eins", 4096, 1), ("zwei", 8192, 2), ("über ß", 512, 3)] {
        let conn = Connection::builder().export_name(name).build();
        conn.connect_unix(server.socket()).await.unwrap();
        assert_eq!(conn.size().unwrap(), size);
        let data = conn.read(0, size as usize).await.unwrap();
        assert!(data.iter().all(|&held| held == byte));
    }
}

both_runtimes!(info_and_go_agree);
async fn info_and_go_agree() {
    let server = Server::nbdkit(&NAMED);
    let conn = negotiating(&server).await;
    conn.set_export_name("b").unwrap();
    conn.set_full_info(true).unwrap();
    conn.add_meta_context("base:allocation").unwrap();
    let info = conn.opt_info().await.unwrap();
    conn.opt_go().await.unwrap();
    assert_eq!(conn.export().unwrap(), info);
}

// P-057: the longest name that can be sent.
both_runtimes!(a_name_of_4096_bytes_arrives_whole);
async fn a_name_of_4096_bytes_arrives_whole() {
    let server = Server::nbdkit(&["info", "exportname"]);
    let name = "x".repeat(4096);
    let conn = Connection::builder().export_name(name.clone()).build();
    conn.connect_unix(server.socket()).await.unwrap();
    let data = conn.read(0, 4096).await.unwrap();
    assert_eq!(data, name.as_bytes());
    let conn = Connection::builder().export_name(name + "x").build();
    let error = conn.connect_unix(server.socket()).await.unwrap_err();
    assert_eq!(error.errno(), Some(36), "{error}");
}
