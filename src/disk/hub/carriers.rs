//! What carries the changes that have not ended.

use std::mem;
use std::sync::Arc;

use crate::disk::carry::Carried;
use crate::disk::state::Place;

/// What carries each change that has not ended, unless it was handed over to a task.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    by_place: Vec<Option<Arc<dyn Carried>>>,
    len: usize,
}

impl Carriers {
    pub(super) fn insert(&mut self, place: Place, carrier: Arc<dyn Carried>) {
        let at = place.index();
        if self.by_place.len() <= at {
            self.by_place.resize(at + 1, None);
        }
        self.by_place[at] = Some(carrier);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Arc<dyn Carried>> {
        let carrier = self.by_place.get_mut(place.index())?.take();
        self.len -= usize::from(carrier.is_some());
        carrier
    }

    /// Takes all but that of one change.
    pub(super) fn take_others(&mut self, but: Option<Place>) -> Vec<Arc<dyn Carried>> {
        let own = but.and_then(|place| Some((place, self.remove(place)?)));
        let others = match mem::take(&mut self.len) {
            0 => Vec::new(),
            _ => self.by_place.iter_mut().filter_map(Option::take).collect(),
        };
        if let Some((place, carrier)) = own {
            self.insert(place, carrier);
        }
        others
    }

    #[cfg(all(test, not(shuttle), feature = "test-util"))]
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}
