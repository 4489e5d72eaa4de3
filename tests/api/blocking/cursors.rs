//! Files over a disk that is not async.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::{Error, InvalidRequest, Phase};

use crate::shared::random::Random;
use crate::support::*;

use super::{open, within};

#[test]
fn a_cursor_is_a_file() {
    within(|| {
        let export = Export::new(100_000).block_sizes(512, 4096, 1 << 20);
        let server = Server::new(export.clone());
        let disk = open(&server);
        let mut model = std::io::Cursor::new(vec![0; 100_000]);
        let mut cursor = disk.cursor().write_behind(1 << 20);
        let mut random = Random::new(23);
        for _ in 0..500 {
            let place = SeekFrom::Start(random.below(100_000));
            assert_eq!(cursor.seek(place).unwrap(), model.seek(place).unwrap());
            let length = random.below(3000).min(100_000 - model.position()) as usize;
            if random.below(2) == 0 {
                let data = random.bytes(length);
                cursor.write_all(&data).unwrap();
                model.write_all(&data).unwrap();
            } else {
                let (mut read, mut expected) = (vec![0; length], vec![0; length]);
                cursor.read_exact(&mut read).unwrap();
                model.read_exact(&mut expected).unwrap();
                assert!(read == expected);
            }
            assert_eq!(cursor.stream_position().unwrap(), model.position());
        }
        cursor.flush().unwrap();
        assert!(export.contents(0, 100_000) == *model.get_ref());
        let flushes = export.counters().flushes;
        cursor.sync_all().unwrap();
        assert_eq!(export.counters().flushes, flushes + 1);
    });
}

#[test]
fn a_cursor_is_read_in_order_and_ahead() {
    within(|| {
        let mut random = Random::new(29);
        let content = random.bytes(3 << 20);
        let server = Server::new(Export::from_contents(&content));
        let disk = open(&server);
        let mut read = Vec::new();
        disk.cursor().read_to_end(&mut read).unwrap();
        assert!(read == content);

        let server = Server::new(Export::from_contents(&content));
        let disk = open(&server);
        let mut cursor = disk.cursor().range(4096..);
        assert_eq!(cursor.size().unwrap(), (3 << 20) - 4096);
        let first = cursor.fill_buf().unwrap();
        assert!(content[4096..].starts_with(first));
        let length = first.len();
        cursor.consume(length);
        // Nothing more was asked of the cursor.
        block_on(server.received(4));
        let mut next = [0; 100_000];
        cursor.read_exact(&mut next).unwrap();
        assert!(content[4096 + length..].starts_with(&next));
    });
}

#[test]
fn lines_are_read_through_any_reader() {
    within(|| {
        let server = Server::new(Export::from_contents("one\ntwo\nthree\n"));
        let disk = open(&server);
        let lines: Result<Vec<_>, _> = disk.cursor().lines().collect();
        assert_eq!(lines.unwrap(), ["one", "two", "three"]);
        let lines: Result<Vec<_>, _> = BufReader::new(disk.cursor()).lines().collect();
        assert_eq!(lines.unwrap(), ["one", "two", "three"]);
    });
}

/// The error of this crate in one of the standard library.
fn inner(error: &std::io::Error) -> &Error {
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[test]
fn errors_are_those_of_the_crate() {
    within(|| {
        let server = Server::new(Export::new(4096));
        let disk = open(&server).timeout(Duration::from_millis(20));
        let mut outside = disk.cursor().range(4000..5000);
        let error = outside.read(&mut [0; 10]).unwrap_err();
        assert_matches!(
            inner(&error),
            Error::Invalid(InvalidRequest::OutOfBounds { .. })
        );

        let mut cursor = disk.cursor();
        cursor.seek(SeekFrom::End(0)).unwrap();
        let error = cursor.write_all(&[1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);

        server.pause();
        cursor.rewind().unwrap();
        let error = cursor.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_matches!(inner(&error), Error::Timeout(Phase::Request, _));
    });
}
