//! Which link takes a request (P4, P6), and when another one is wished for (P2).

/// How many requests a link works on before another link is wished for: servers work on no more at
/// a time.
const BUSY: usize = 16;

/// A link, as far as it matters here.
pub(crate) trait Numbered {
    /// Its number, counted from 1.
    fn generation(&self) -> u64;
}

/// The links that are ready, and what each works on.
#[derive(Debug)]
pub(crate) struct Links<L>(Vec<Ready<L>>);

#[derive(Debug)]
struct Ready<L> {
    link: L,
    requests: usize,
    bytes: u64,
}

impl<L> Default for Links<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L: Numbered> Links<L> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &L> {
        self.0.iter().map(|ready| &ready.link)
    }

    pub(crate) fn has(&self, generation: u64) -> bool {
        self.iter().any(|link| link.generation() == generation)
    }

    pub(crate) fn add(&mut self, link: L) {
        self.0.push(Ready {
            link,
            requests: 0,
            bytes: 0,
        });
    }

    pub(crate) fn remove(&mut self, generation: u64) -> Option<L> {
        let of = |ready: &Ready<L>| ready.link.generation() == generation;
        let at = self.0.iter().position(of)?;
        Some(self.0.remove(at).link)
    }

    /// Gives a request of so many bytes to a link: to that of the generation `maker`, if it is there, or
    /// else to the one with the fewest bytes in flight. Also returns whether that one has so much to do
    /// that another link is wished for.
    pub(crate) fn pick(&mut self, maker: Option<u64>, length: u64) -> Option<(&L, bool)> {
        let mut all = self.0.iter();
        let written = all.position(|ready| Some(ready.link.generation()) == maker);
        let least = self.0.iter().enumerate();
        let least = least.min_by_key(|(_, ready)| (ready.bytes, ready.requests));
        let at = written.or_else(|| least.map(|(at, _)| at))?;
        let ready = &mut self.0[at];
        ready.requests += 1;
        ready.bytes = ready.bytes.saturating_add(length);
        Some((&ready.link, ready.requests > BUSY))
    }

    /// A request of so many bytes has ended on the link of this generation, which may be gone.
    pub(crate) fn release(&mut self, generation: u64, length: u64) {
        let of = |ready: &&mut Ready<L>| ready.link.generation() == generation;
        if let Some(ready) = self.0.iter_mut().find(of) {
            ready.requests = ready.requests.saturating_sub(1);
            ready.bytes = ready.bytes.saturating_sub(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Numbered for u64 {
        fn generation(&self) -> u64 {
            *self
        }
    }

    proptest! {
        /// The plain rule, over links that come and go.
        #[test]
        fn a_request_goes_to_the_maker_or_to_the_link_with_the_fewest_bytes(
            steps in prop::collection::vec(
                (0..5_u8, prop::option::of(1..8_u64), 1..100_u64, any::<prop::sample::Index>()),
                0..80,
            ),
        ) {
            let (mut links, mut next) = (Links::default(), 0);
            // The requests in flight, and the links that are there.
            let (mut flight, mut there): (Vec<(u64, u64)>, Vec<u64>) = (Vec::new(), Vec::new());
            let busy = |flight: &[(u64, u64)], link: u64| {
                let own = flight.iter().filter(|(of, _)| *of == link);
                own.fold((0, 0), |(bytes, count), (_, length)| (bytes + length, count + 1))
            };
            for (step, maker, length, which) in steps {
                match step {
                    0 => {
                        next += 1;
                        links.add(next);
                        there.push(next);
                    }
                    1 if !there.is_empty() => {
                        let gone = there.remove(which.index(there.len()));
                        prop_assert_eq!(links.remove(gone), Some(gone));
                        flight.retain(|(of, _)| *of != gone);
                    }
                    2 if !flight.is_empty() => {
                        let (of, length) = flight.remove(which.index(flight.len()));
                        links.release(of, length);
                    }
                    _ => {
                        let least = there.iter().map(|&link| busy(&flight, link)).min();
                        let picked = links.pick(maker, length);
                        prop_assert_eq!(picked.is_some(), !there.is_empty());
                        let Some((&link, is_busy)) = picked else { continue };
                        match maker.filter(|maker| there.contains(maker)) {
                            Some(maker) => prop_assert_eq!(link, maker),
                            None => prop_assert_eq!(Some(busy(&flight, link)), least),
                        }
                        flight.push((link, length));
                        prop_assert_eq!(is_busy, busy(&flight, link).1 > BUSY);
                    }
                }
                prop_assert!(links.iter().eq(&there) && links.len() == there.len());
            }
        }
    }
}
