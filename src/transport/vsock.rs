//! Sockets between a virtual machine and its host.

use tokio_vsock::{VsockAddr, VsockStream};

use super::{Transport, fd};
use crate::error::trying;
use crate::error::{Error, Phase, Result};

/// Connects to a port of a machine, where 2 is the host.
///
/// Waits for as long as the system does; the caller sets the deadline.
///
/// # Cancel safety
///
/// Dropping the future closes the socket.
pub(crate) async fn connect(cid: u32, port: u32) -> Result<Transport> {
    match VsockStream::connect(VsockAddr::new(cid, port)).await {
        // Once it is connected it is a socket like any other. The stream we get here writes only
        // one slice at a time.
        Ok(stream) => fd::adopt(stream.into()),
        Err(error) => {
            let what = format!("cannot connect to port {port} of machine {cid}");
            Err(Error::io(Phase::Connect, trying(what, error)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::raw_os_error;

    #[tokio::test]
    async fn failure_names_machine_and_port() {
        // The local machine, which not every kernel supports, and a port on which no server listens.
        let error = connect(1, u32::MAX).await.err().unwrap();
        let text = "cannot connect to port 4294967295 of machine 1: ";
        assert!(error.to_string().contains(text), "{error}");
        let Error::Disconnected(lost, _) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(lost.phase(), Phase::Connect);
        assert!(raw_os_error(lost.io()).is_some());
    }
}
