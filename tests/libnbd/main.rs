//! What libnbd's own tests check, checked here.
//!
//! One line for each test in libnbd's `tests/` and `interop/`: where its equivalent is, or why
//! there is none. `api`, `interop` and `info` are the other test programs; `session`, `transport`
//! and the like are unit tests in `src`. libnbd's `rust/tests` are in `interop::nbdkit::libnbd`.
//! Tests of TLS are not listed.
//!
//! # `tests/`
//!
//! | libnbd | here |
//! |---|---|
//! | compile-header-only, -c, -iso-c99, -cxx, dlopen | none: there is no C interface |
//! | close-null | none: a handle is never null |
//! | get-version, version | none: Cargo knows the version |
//! | private-data | none: callers have closures and structs of their own |
//! | debug, debug-environment | `api::logging`: events of `tracing` instead of a callback |
//! | closure-lifetimes | none: there are no callbacks; futures that are dropped are in `interop::nbdkit::cancel` |
//! | errors-enum, errors-bitmask | none: values that do not exist cannot be written down |
//! | errors-connect-null | `nbdkit::checks::empty_command_leaves_the_handle_as_it_was` |
//! | errors-connect-twice | `nbdkit::checks::handle_is_connected_once`, `interop::state` |
//! | errors-not-connected | `nbdkit::checks::commands_before_connecting_are_errors` |
//! | errors-not-negotiating, -aio | `nbdkit::checks::options_need_option_mode`, `commands_need_more_than_option_mode` |
//! | errors-notify-not-blocked, errors-poll-no-fd | none: Tokio polls, callers do not |
//! | errors-name-too-long | `nbdkit::checks::names_that_are_too_long_are_errors` |
//! | errors-bad-cookie | none: cookies are not handed out |
//! | errors-pread-structured | `nbdkit::checks::commands_before_connecting_are_errors`: an error is the last item of the stream |
//! | errors-client-oversize, errors-server-oversize | `nbdkit::checks::large_writes_are_sent_in_parts_or_the_server_has_its_say`, `api::strict::no_message_is_longer_than_64_mib_whatever_is_switched_off` |
//! | errors-client-, errors-server-unadvertised-cmd | `nbdkit::checks::requests_that_are_not_offered_are_refused_here_or_there` |
//! | errors-client-, errors-server-unaligned | `nbdkit::checks::unaligned_requests_are_refused_here_or_there` |
//! | errors-client-, errors-server-unknown-flags | `nbdkit::checks::unknown_flags_are_refused_here_or_there` |
//! | errors-client-, errors-server-zerosize | `nbdkit::checks::requests_of_nothing_are_refused_here_or_there` |
//! | errors-server-invalid-offset | `nbdkit::checks::requests_beyond_the_end_are_refused_here_or_there` |
//! | errors-multiple-disconnects | `nbdkit::shutdown::disconnecting_twice_is_no_error_and_nothing_follows` |
//! | connect-tcp | `interop::nbdkit::handshake::nbdkit_is_reached_over_tcp` |
//! | connect-tcp6 | `nbdkit::transports::server_is_reached_over_ipv6` |
//! | connect-unix | `interop::nbdkit`, all over; `nbdkit::transports::abstract_socket_is_reached_and_named` |
//! | connect-systemd-socket-activation | `nbdkit::activation::server_takes_over_a_socket` |
//! | aio-connect, aio-connect-port | `nbdkit::transports::numeric_address_comes_back_in_the_uri`; an address of another family comes connected, as in `interop::nbdkit::socket` |
//! | connect-uri-nbd, connect-uri-nbd-unix | `interop::nbdkit::uri`, `api::uri` |
//! | connect-uri-nbd-vsock | none: few kernels can reach themselves; that the call reaches the kernel is in `transport::vsock` |
//! | socket-activation-name | `nbdkit::activation::socket_has_the_name_that_was_given_or_is_unknown`, `name_that_no_socket_can_have_is_refused` |
//! | aio-parallel, aio-parallel-load, synch-parallel | `interop::nbdkit::file::many_tasks_mix_reads_and_writes…` |
//! | server-death | `interop::nbdkit::child::killing_the_server_fails_all_that_is_in_flight` |
//! | shutdown-flags | `nbdkit::shutdown::requests_that_a_stopped_server_was_not_sent_can_be_given_up`, `api::controls::abandoning…` |
//! | shutdown-opt-mode | `nbdkit::options::disconnecting_while_negotiating_aborts` |
//! | oldstyle | `interop::nbdkit::handshake::an_oldstyle_server…` |
//! | newstyle-limited | `nbdkit::options::without_fixed_newstyle_there_is_only_go_and_abort` |
//! | opt-abort, -info, -list, -list-meta, -list-meta-queries, -set-meta, -set-meta-queries | `interop::nbdkit::libnbd`, `api::controls::whether_a_context_can_be_used_is_known_after_a_selection` |
//! | opt-structured-twice | `nbdkit::options::structured_replies_can_be_asked_for_twice` |
//! | get-size, export-name | `nbdkit::transports::name_of_the_export_can_be_set_and_asked` |
//! | read-only-flag, read-write-flag | `nbdkit::flags::server_that_reads_only_is_read_only` |
//! | eflags-* | `nbdkit::flags` |
//! | meta-base-allocation | `nbdkit::map` |
//! | pread-initialize | none: no buffer is handed out before it is filled |
//! | pwrite-extended | `nbdkit::checks::payload_flag_without_extended_headers_is_the_servers_to_refuse`, `api::strict::payload_flag…` |
//!
//! # `interop/`
//!
//! | libnbd | here |
//! |---|---|
//! | interop-nbd-server | `interop::nbd_server` |
//! | list-exports-nbd-server, -qemu-nbd, -nbdkit | `interop::nbd_server::the_list_has_every_section`, `interop::qemu::exports::the_list_has_name_and_description`, `interop::nbdkit::exports`; `info` |
//! | interop-qemu-nbd, socket-activation-qemu-nbd | `qemu::activation::server_takes_over_a_socket` |
//! | socket-activation-nbdkit | `nbdkit::activation::server_takes_over_a_socket` |
//! | interop-nbdkit | `interop::nbdkit` |
//! | dirty-bitmap | `qemu::status::bitmap_tells_what_was_written_since_it_was_made`; there is no callback to fail |
//! | block-status-64 | `qemu::status::extents_of_more_than_4_gib_are_told_in_either_form_of_headers`; there is no form of 32 bits that could be cut off |
//! | block-status-payload | `qemu::status::status_is_told_for_the_contexts_that_are_wanted` |
//! | structured-read | `qemu::headers::data_and_holes_are_put_together_or_come_in_one_piece`; there is no callback to fail |
//! | opt-extended-headers | `qemu::headers::extended_headers_and_structured_replies_are_agreed_in_any_order` |
//! | interop-qemu-block-size | `qemu::headers::block_sizes_are_known_to_who_asks_for_them` |
//! | interop-qemu-storage-daemon | `qemu::storage_daemon` |
//!
//! # Other outcomes than libnbd's
//!
//! - Reads and writes longer than the server takes are sent in parts, not refused.
//! - A second disconnect is no error.
//! - Block sizes that contradict each other end the handshake: they were asked for, so they cannot
//!   be ignored. libnbd ignores them. Their maximum is obeyed, also if it is below 1 MiB.
//! - Extents that a server adds after the end of the range it was asked about, or beyond the end
//!   of the export, are cut off; libnbd hands them on, or fails.
//! - How URIs differ is in `uri::parse`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

mod nbdkit;
mod qemu;
