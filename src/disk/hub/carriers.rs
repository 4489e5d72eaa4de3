//! What carries the changes that have not ended.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::disk::carry::Carried;
use crate::disk::state::Place;

/// What carries each change that has not ended, by its place, unless it was handed over to a task.
#[derive(Debug, Default)]
pub(super) struct Carriers(BTreeMap<usize, Arc<dyn Carried>>);

impl Carriers {
    pub(super) fn insert(&mut self, place: Place, carrier: Arc<dyn Carried>) {
        self.0.insert(place.index(), carrier);
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Arc<dyn Carried>> {
        self.0.remove(&place.index())
    }

    /// Takes all but that of one change.
    pub(super) fn take_others(
        &mut self,
        but: Option<Place>,
    ) -> impl Iterator<Item = Arc<dyn Carried>> + use<> {
        let own = but.and_then(|place| Some((place.index(), self.remove(place)?)));
        let kept = own.into_iter().collect();
        mem::replace(&mut self.0, kept).into_values()
    }

    #[cfg(all(test, not(shuttle), feature = "test-util"))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
