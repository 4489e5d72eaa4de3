//! The exports to test on.

use nbd_client::Connector;
use nbd_client::testing::{Export, Server};

use crate::in_process::way_to;

/// The size of the exports, in bytes.
pub(crate) const SIZE: u64 = 16 << 20;

/// An export to connect to once, and its name for messages.
pub(crate) struct Place {
    pub(crate) name: String,
    /// The minimum block size, in bytes.
    pub(crate) block: u32,
    pub(crate) connector: Connector,
}

/// What `plugin` of nbdkit serves, with blocks of this size; it refuses anything else.
pub(crate) fn nbdkit(block: u32, plugin: &[&str]) -> Place {
    let sizes = [
        format!("blocksize-minimum={block}"),
        "blocksize-preferred=4096".to_owned(),
        "blocksize-maximum=1M".to_owned(),
        "blocksize-error-policy=error".to_owned(),
    ];
    let mut words = vec![
        "nbdkit",
        "-s",
        "--exit-with-parent",
        "--filter=blocksize-policy",
    ];
    words.extend(plugin);
    words.extend(sizes.iter().map(String::as_str));
    Place {
        name: format!("nbdkit, blocks of {block}"),
        block,
        connector: Connector::command(words),
    }
}

/// A place of each kind. They are empty.
pub(crate) fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for block in [512, 4096] {
        let server = Server::new(Export::new(SIZE).block_sizes(block, 4096, 1 << 20));
        places.push(Place {
            name: format!("in process, blocks of {block}"),
            block,
            connector: way_to(&server),
        });
        places.push(nbdkit(block, &["memory", "16M"]));
    }
    places
}
