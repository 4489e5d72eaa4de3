//! A disk whose servers are killed and whose connections are cut.

mod activated;
mod fences;
mod flushes;
mod ghosts;
mod killed;
mod restarts;
mod slow;
mod soak;
mod wire;
