//! Cursors that cover a part of an export.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_part_of_a_cursor_that_was_used_ends_where_it_ends() {
    let disk = Export::from_contents(content(1 << 20));
    let (conn, _server) = connect(Server::builder(), &disk).await;
    for range in [0..100, 50..70_000] {
        let mut cursor = conn.cursor();
        within(cursor.read_exact(&mut [0; 10])).await.unwrap();
        let mut found = Vec::new();
        let mut part = cursor.range(range.clone()).take(1 << 20);
        within(part.read_to_end(&mut found)).await.unwrap();
        let length = (range.end - range.start) as usize;
        assert!(found == disk.contents(range.start, length), "{range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_is_a_file_of_its_own() {
    let disk = Export::from_contents(content(100_000));
    let (conn, _server) = connect(Server::builder(), &disk).await;
    let mut part = conn.cursor().range(10_000..).range(1000..=1999);
    assert_eq!(part.size().unwrap(), 1000);
    let mut found = Vec::new();
    within(part.read_to_end(&mut found)).await.unwrap();
    assert!(found == disk.contents(11_000, 1000));
    assert_eq!(within(part.seek(SeekFrom::End(-10))).await.unwrap(), 990);
    // A short write, and then none.
    assert_eq!(within(part.write(&[7; 20])).await.unwrap(), 10);
    assert_eq!(within(part.write(&[7; 20])).await.unwrap(), 0);
    let error = within(part.write_all(&[7; 20])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    assert_eq!(disk.contents(11_990, 10), [7; 10]);
    assert!(disk.contents(12_000, 10) == content(100_000)[12_000..12_010]);
    within(part.seek(SeekFrom::Start(5000))).await.unwrap();
    assert_eq!(within(part.read(&mut [0; 9])).await.unwrap(), 0);
    assert_eq!(within(part.write(&[0; 9])).await.unwrap(), 0);
    let error = within(part.seek(SeekFrom::Current(-5001)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(part.position(), 5000);
    // Parts that are not there.
    for part in [
        conn.cursor().range(..100_001),
        conn.cursor().range(100_001..),
        conn.cursor().range(..=u64::MAX),
    ] {
        assert_matches!(
            part.size(),
            Err(Error::Invalid(InvalidRequest::OutOfBounds { .. }))
        );
        let mut part = part;
        let error = within(part.read(&mut [0; 9])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(within(part.write(&[0; 9])).await.is_err());
        assert!(within(part.seek(SeekFrom::End(0))).await.is_err());
    }
    let outside = "invalid range: it is not inside the range that the cursor covered before";
    let reversed = "invalid range: it ends at 105, before it starts at 109";
    #[allow(clippy::reversed_empty_ranges, reason = "it is a mistake")]
    for (mut part, text) in [
        (conn.cursor().range(..100).range(50..101), outside),
        (conn.cursor().range(5..6).range(2..), outside),
        (conn.cursor().range(5..6).range(2..).range(0..0), outside),
        (conn.cursor().range(100..).range(9..5), reversed),
        (conn.cursor().range(109..105).range(..), reversed),
    ] {
        assert_eq!(part.size().unwrap_err().to_string(), text);
        let error = within(part.read(&mut [0; 9])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), text);
        assert!(within(part.write(&[0; 9])).await.is_err());
        assert!(within(part.seek(SeekFrom::End(0))).await.is_err());
    }
    assert_eq!(conn.cursor().range(5..5).size().unwrap(), 0);
    let mut cursor = Cursor::new(Connection::new());
    let error = within(cursor.read(&mut [0; 9])).await.unwrap_err();
    assert_matches!(inner(&error), Error::Invalid(InvalidRequest::State { .. }));
}
