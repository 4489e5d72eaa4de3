//! A disk whose servers are killed and whose connections are cut.

mod fences;
mod ghosts;
mod restarts;
mod slow;
mod wire;
