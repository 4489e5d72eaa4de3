//! What the server says comes in pieces: nothing may depend on where they begin and end.

use nbd_client::wire::ReplyStyle;

use crate::paced::Paced;
use crate::shared::long;
use crate::support::*;
use crate::talk::Talk;

/// Every conversation, of those with much data all that is not in the middle of it.
async fn splits() -> Vec<(Talk, usize)> {
    let mut splits = Vec::new();
    for talk in Talk::SHORT {
        let (_, whole) = talk.whole().await;
        splits.extend((1..whole).map(|cut| (talk, cut)));
    }
    // The handshake, and the first three chunks with their heads.
    for style in STYLES {
        splits.extend((1..400).map(|cut| (Talk::Bulk(style), cut)));
        let chunks = 400..3 * 5000;
        splits.extend(chunks.step_by(53).map(|cut| (Talk::Bulk(style), cut)));
    }
    splits
}

#[tokio::test]
async fn c47_a_conversation_split_in_two_anywhere_is_the_same() {
    let splits = splits().await;
    assert!(splits.len() >= 4000, "{} splits", splits.len());
    for (talk, cut) in splits {
        let (undivided, _) = talk.whole().await;
        let stream = Paced::split_at(talk.server().connect(), [cut]);
        let heard = talk.hold(stream).await.unwrap();
        assert_eq!(heard, undivided, "{talk:?} split at {cut}");
    }
}

#[tokio::test]
async fn c47_a_conversation_split_in_three_anywhere_is_the_same() {
    let mut random = Random::seeded(47);
    let mut talks = Vec::new();
    for talk in Talk::SHORT.into_iter().chain(STYLES.map(Talk::Bulk)) {
        let (undivided, whole) = talk.whole().await;
        // Of the bulk as much as above.
        talks.push((talk, undivided, whole.min(3 * 5000) as u64));
    }
    let splits = 1000 * long::factor();
    for _ in 0..splits {
        let (talk, undivided, end) = &talks[random.below(talks.len() as u64) as usize];
        let mut cut = || 1 + random.below(end - 1) as usize;
        let cuts = [cut(), cut()];
        let stream = Paced::split_at(talk.server().connect(), cuts);
        let heard = talk.hold(stream).await.unwrap();
        assert_eq!(heard, *undivided, "{talk:?} split at {cuts:?}");
    }
    println!("reached: {splits} conversations split in three");
}

#[tokio::test]
async fn o16_r14_drips_of_any_size_change_nothing() {
    let bulks = STYLES.map(Talk::Bulk);
    for talk in Talk::SHORT.into_iter().chain(bulks) {
        let (undivided, _) = talk.whole().await;
        for step in [1, 2, 3, 7, 17, 19, 64, 1000] {
            let stream = Paced::dripping(talk.server().connect(), step);
            let heard = talk.hold(stream).await.unwrap();
            assert_eq!(heard, undivided, "{talk:?} in drips of {step}");
        }
    }
}

#[tokio::test]
async fn k29_pipes_of_any_size_change_nothing() {
    for talk in Talk::SHORT
        .into_iter()
        .chain([Talk::Bulk(ReplyStyle::Extended)])
    {
        let (undivided, _) = talk.whole().await;
        for capacity in [1, 2, 5, 27, 28, 29, 100, 4096] {
            let stream = talk.server().connect_with_capacity(capacity);
            let heard = talk.hold(stream).await.unwrap();
            assert_eq!(heard, undivided, "{talk:?} through {capacity} bytes");
        }
    }
}
