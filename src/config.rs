//! The options of a connection.

use std::time::Duration;

use crate::limits::Limits;
use crate::strict::Strict;
#[cfg(unix)]
use crate::transport::program::Program;
use crate::transport::tcp::TcpOptions;
use crate::uri::UriPolicy;
use crate::wire::HandshakeFlags;

/// Options that are fixed before connecting.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) opt_mode: bool,
    pub(crate) structured_replies: bool,
    pub(crate) extended_headers: bool,
    pub(crate) force_export_name: bool,
    pub(crate) read_only: bool,
    pub(crate) handshake_flags: HandshakeFlags,
    pub(crate) handshake_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    #[cfg(unix)]
    pub(crate) child_kill_delay: Duration,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) reply_timeout: Option<Duration>,
    pub(crate) busy_poll: Option<Duration>,
    pub(crate) emulate_fua: bool,
    pub(crate) dont_fragment_reads: bool,
    pub(crate) measure_latency: bool,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) strict: Strict,
    pub(crate) tcp: TcpOptions,
    #[cfg(unix)]
    pub(crate) socket_name: Option<String>,
    #[cfg(unix)]
    pub(crate) ssh: Program,
    pub(crate) uri_policy: UriPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            opt_mode: false,
            structured_replies: true,
            extended_headers: true,
            force_export_name: false,
            read_only: false,
            handshake_flags: HandshakeFlags::all(),
            handshake_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
            #[cfg(unix)]
            child_kill_delay: Duration::from_secs(2),
            request_timeout: None,
            stall_timeout: None,
            reply_timeout: None,
            busy_poll: None,
            emulate_fua: false,
            dont_fragment_reads: false,
            measure_latency: false,
            max_in_flight: 1024,
            max_in_flight_bytes: 128 << 20,
            limits: Limits::default(),
            strict: Strict::default(),
            tcp: TcpOptions::default(),
            #[cfg(unix)]
            socket_name: None,
            #[cfg(unix)]
            ssh: Program::new("ssh"),
            uri_policy: UriPolicy::default(),
        }
    }
}

/// Options about the export, which can be changed while negotiating.
#[derive(Clone, Debug)]
pub(crate) struct ExportOptions {
    pub(crate) export_name: String,
    pub(crate) contexts: Vec<String>,
    /// Those of the contexts without which the export is not entered.
    pub(crate) required: Vec<String>,
    pub(crate) request_meta_context: bool,
    pub(crate) full_info: bool,
    pub(crate) request_block_size: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            export_name: String::new(),
            contexts: Vec::new(),
            required: Vec::new(),
            request_meta_context: true,
            full_info: false,
            request_block_size: true,
        }
    }
}
