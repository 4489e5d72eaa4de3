use bytes::Bytes;

use super::*;

fn data(text: &'static str) -> Content {
    Content::Data(Bytes::from_static(text.as_bytes()))
}

#[test]
fn a_flush_covers_what_was_acknowledged_before_it_was_sent() {
    let mut unflushed = Unflushed::new(Some(1 << 20));
    unflushed.acknowledge(&(0..4), &data("abcd"), 1, false);
    let mark = unflushed.mark();
    unflushed.acknowledge(&(2..6), &data("efgh"), 1, false);
    assert_eq!((unflushed.memory(), unflushed.bytes()), (6, 6));
    unflushed.flushed(mark);
    assert_eq!((unflushed.memory(), unflushed.bytes()), (4, 4));
    unflushed.acknowledge(&(3..4), &data("x"), 1, true);
    assert_eq!((unflushed.memory(), unflushed.bytes()), (3, 3));
    unflushed.acknowledge(&(0..6), &Content::Unknown, 1, false);
    assert_eq!((unflushed.memory(), unflushed.len()), (0, 0));
}

#[test]
fn without_a_journal_the_next_flush_says_once_what_may_be_lost() {
    let mut unflushed = Unflushed::new(None);
    unflushed.acknowledge(&(0..4), &data("abcd"), 1, false);
    unflushed.acknowledge(&(8..12), &Content::Zeroes, 1, false);
    assert!(unflushed.server_lost(&Ghosts::default()).is_empty());
    // Written anew on the next link: nobody minds the old content.
    unflushed.acknowledge(&(8..10), &data("ab"), 2, false);
    unflushed.replaced(&(8..10));
    let mark = unflushed.mark();
    unflushed.flushed(mark);
    assert_eq!(unflushed.take_unsure(), [0..4, 10..12]);
    assert!(unflushed.take_unsure().is_empty());
}

#[test]
fn a_journal_writes_all_again_that_no_ghost_covers() {
    let mut unflushed = Unflushed::new(Some(1 << 20));
    unflushed.acknowledge(&(0..8), &data("abcdefgh"), 1, false);
    let mut ghosts = Ghosts::default();
    ghosts.add(&(2..4), &data("xy"), 1);
    let again = unflushed.server_lost(&ghosts);
    let again: Vec<_> = again
        .iter()
        .map(|(range, content)| (range.clone(), content))
        .collect();
    assert!(
        matches!(&again[..], [(a, Content::Data(ab)), (b, Content::Data(efgh))]
        if *a == (0..2) && ab == "ab" && *b == (4..8) && efgh == "efgh")
    );
    assert!(unflushed.unsure().eq(std::iter::once(2..4)));
    assert_eq!(unflushed.memory(), 8, "kept until it is flushed");
    // A ghost of what was being written again stands in nobody's way (R1).
    ghosts.add(&(4..6), &data("ef"), 2);
    let again = unflushed.server_lost(&ghosts).into_iter();
    assert!(again.map(|(range, _)| range).eq([0..2, 4..8]));
}

#[test]
fn a_journal_writes_nothing_over_what_may_have_been_read() {
    let mut unflushed = Unflushed::new(Some(1 << 20));
    unflushed.acknowledge(&(0..8), &data("abcdefgh"), 1, false);
    unflushed.doubt(&(2..6), &data("xyef"));
    unflushed.doubt(&(6..8), &Content::Unknown);
    assert_eq!(unflushed.bytes(), 8);
    // No ghost is left: it was fenced.
    let again = unflushed.server_lost(&Ghosts::default()).into_iter();
    assert!(again.map(|(range, _)| range).eq(std::iter::once(0..2)));
    assert!(unflushed.unsure().eq(std::iter::once(2..8)));
    assert!(unflushed.is_full(), "a flush takes the doubt away");
}

#[test]
fn changes_are_joined_that_one_flush_covers() {
    let mut unflushed = Unflushed::new(None);
    let mut acknowledge = |range, generation| {
        unflushed.acknowledge(&range, &Content::Zeroes, generation, false);
        unflushed.len()
    };
    assert_eq!(acknowledge(0..4, 1), 1);
    assert_eq!(acknowledge(4..8, 1), 1);
    assert_eq!(acknowledge(2..6, 1), 1);
    assert_eq!(acknowledge(8..12, 2), 2, "another link");
    let mark = unflushed.mark();
    unflushed.acknowledge(&(6..8), &Content::Zeroes, 1, false);
    assert_eq!(unflushed.len(), 3, "after the flush was sent");
    unflushed.flushed(mark);
    assert_eq!((unflushed.bytes(), unflushed.maker(&(0..12))), (2, Some(1)));
}

#[test]
fn reads_go_to_the_link_that_wrote() {
    let mut unflushed = Unflushed::new(None);
    unflushed.acknowledge(&(0..4), &data("abcd"), 1, false);
    assert_eq!(unflushed.maker(&(2..6)), Some(1));
    unflushed.acknowledge(&(4..8), &data("abcd"), 2, false);
    assert_eq!(unflushed.maker(&(2..6)), Some(2));
    assert!(unflushed.has_several_makers(&(2..6)));
    assert_eq!(unflushed.maker(&(8..9)), None);
}

#[test]
fn too_many_ranges_are_joined_with_what_lies_between() {
    const STEP: u64 = 10;
    for limit in [None, Some(0)] {
        let mut unflushed = Unflushed::new(limit);
        let count = 2 * MOST as u64 + 10;
        for at in 0..count {
            let range = at * STEP..at * STEP + 1;
            unflushed.acknowledge(&range, &data("x"), 1, false);
            assert!(unflushed.len() <= 2 * MOST);
        }
        let covered = |at: u64| unflushed.maker(&(at * STEP..at * STEP + 1)) == Some(1);
        assert!((0..count).all(covered));
        let others = count * STEP..(count + 2 * MOST as u64) * STEP;
        for at in others.step_by(10) {
            unflushed.acknowledge(&(at..at + 1), &data("x"), 1 + at / 10 % 2, false);
        }
        let is_known = |at: u64| unflushed.maker(&(at * STEP..at * STEP + 1)) != Some(NONE);
        assert!((0..count / 2).all(is_known), "one link has written them");
        assert!(!(count..count + MOST as u64).all(is_known));
        // What comes after this mark is not flushed.
        let mark = unflushed.mark();
        unflushed.acknowledge(&(0..1), &data("y"), 1, false);
        unflushed.flushed(mark);
        assert!(unflushed.ranges().eq(std::iter::once(0..1)));
    }
}
