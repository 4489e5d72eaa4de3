//! The checks of a request before any byte of it is sent.

use super::range::Range;
use crate::connection::Connection;
use crate::driver::Transmission;
use crate::error::InvalidRequest;
use crate::export::Export;
use crate::strict::Strict;
use crate::wire::{Command, CommandFlags, ReplyStyle, TransmissionFlags};

/// Checks command, flags and range against the export.
pub(super) fn check(
    transmission: &Transmission,
    strict: Strict,
    command: Command,
    flags: CommandFlags,
    range: Range,
) -> Result<(), InvalidRequest> {
    let Range { offset, length } = range;
    let export = transmission.export();
    // Not a check of what the server would do, but a promise to the caller.
    if command.changes() && export.read_only {
        return Err(InvalidRequest::ReadOnlyConnection(command));
    }
    if strict.contains(Strict::FLAGS) {
        check_documented(command, flags)?;
    }
    if strict.contains(Strict::COMMANDS) {
        check_command(export, command)?;
        check_flags(export, transmission.style(), command, flags)?;
    }
    if !command.has_range() {
        return Ok(());
    }
    let is_empty = is_empty(strict, command, range);
    // P-139: the length is not zero. A status of nothing has no extent that could answer it.
    if is_empty && command == Command::BLOCK_STATUS {
        return Err(InvalidRequest::ZeroLength(command));
    }
    if strict.contains(Strict::BOUNDS) {
        check_bounds(export, command, offset, length)?;
    }
    if strict.contains(Strict::ALIGN) && !is_empty {
        check_alignment(export, command, offset, length)?;
    }
    Ok(())
}

/// Returns whether a request is for an empty range and therefore is not sent: once the checks are
/// passed, it has succeeded (P-139: the length is not zero).
pub(super) fn is_empty(strict: Strict, command: Command, range: Range) -> bool {
    range.length == 0 && command.has_range() && strict.contains(Strict::ZERO_SIZE)
}

/// The length that every server can send in one piece, in bytes (P-166: DF means one chunk).
const MOST_UNFRAGMENTED: u64 = 64 << 10;

/// Returns `DF` for a read, if all reads of the connection are to be answered in one piece.
pub(super) fn one_piece(
    connection: &Connection,
    transmission: &Transmission,
    command: Command,
) -> CommandFlags {
    let asked = connection.inner().config.dont_fragment_reads;
    if asked && command == Command::READ && transmission.export().can_df() {
        CommandFlags::DF
    } else {
        CommandFlags::empty()
    }
}

/// The size of the messages of a request, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The largest length of a message.
    pub(super) most: u64,
    /// Messages end at multiples of this block size, if possible.
    pub(super) block: u64,
}

impl Step {
    /// Returns the steps with messages of at most `most` bytes, which must be one block at least.
    pub(super) const fn at_most(self, most: u64) -> Self {
        let most = if self.most < most { self.most } else { most };
        Self {
            most: most - most % self.block,
            ..self
        }
    }

    /// Returns the largest length of a message at this offset.
    pub(super) const fn reach(self, offset: u64) -> u64 {
        let end = offset.saturating_add(self.most);
        match (end - end % self.block).saturating_sub(offset) {
            0 => self.most,
            length => length,
        }
    }
}

/// Returns the size of the messages of a request (K36: a length that does not fit its header is
/// sent as several messages).
pub(super) fn step(
    transmission: &Transmission,
    strict: Strict,
    command: Command,
    one_piece: CommandFlags,
) -> Step {
    let export = transmission.export();
    let obeys = strict.contains(Strict::PAYLOAD);
    let (most, preferred) = match command {
        Command::READ if !one_piece.is_empty() => {
            (MOST_UNFRAGMENTED.min(export.max_payload().into()), 1)
        }
        // P-116: a payload is at most the maximum.
        Command::READ | Command::WRITE if obeys => (export.max_payload().into(), 1),
        Command::READ | Command::WRITE => (export.payload_limit.max(1).into(), 1),
        // P-117: the protocol has no limit here, but qemu-nbd applies its maximum payload to CACHE.
        Command::CACHE if obeys => (export.max_cache().into(), export.preferred()),
        _ if transmission.style() == ReplyStyle::Extended => (u64::MAX, 1),
        Command::TRIM | Command::WRITE_ZEROES | Command::CACHE => {
            (u32::MAX.into(), export.preferred())
        }
        // The answer to a block status may cover a part of the range anyway.
        _ => (u64::MAX, 1),
    };
    let least = u64::from(export.alignment());
    let block = match u64::from(preferred).max(least) {
        block if block <= most => block,
        _ if least <= most => least,
        _ => 1,
    };
    let most = most - most % block;
    Step { most, block }
}

/// Checks that the flags are documented for the command (P-134: no others may be sent). The types of
/// requests allow no others, except by `Request::flags`.
fn check_documented(command: Command, flags: CommandFlags) -> Result<(), InvalidRequest> {
    let documented = command
        .spec()
        .map_or(CommandFlags::empty(), |spec| spec.flags);
    if documented.contains(flags) {
        Ok(())
    } else {
        let flags = flags - documented;
        Err(InvalidRequest::WrongFlags { command, flags })
    }
}

/// Checks that the server offers the command (P-132: no other may be sent; P-149: a read-only export
/// is not written).
fn check_command(export: &Export, command: Command) -> Result<(), InvalidRequest> {
    let needed = command
        .spec()
        .map_or(TransmissionFlags::empty(), |spec| spec.offer);
    if !export.flags.contains(needed) {
        return Err(InvalidRequest::Unsupported(command));
    }
    if command.changes() && export.is_read_only() {
        return Err(InvalidRequest::ReadOnly(command));
    }
    // P-085, P-143: block status needs selected contexts.
    if command == Command::BLOCK_STATUS && export.contexts.is_empty() {
        return Err(InvalidRequest::NoContexts);
    }
    Ok(())
}

/// Checks that the server offers the flags (P-132: no others may be sent).
fn check_flags(
    export: &Export,
    style: ReplyStyle,
    command: Command,
    flags: CommandFlags,
) -> Result<(), InvalidRequest> {
    for (flag, needed, name) in [
        (CommandFlags::FUA, TransmissionFlags::SEND_FUA, "FUA"),
        (CommandFlags::DF, TransmissionFlags::SEND_DF, "DF"),
        (
            CommandFlags::FAST_ZERO,
            TransmissionFlags::SEND_FAST_ZERO,
            "FAST_ZERO",
        ),
    ] {
        if flags.contains(flag) && !export.flags.contains(needed) {
            return Err(InvalidRequest::UnsupportedFlag(name));
        }
    }
    let announces = flags.contains(CommandFlags::PAYLOAD_LEN);
    let fits = match command {
        // PAYLOAD_LEN announces a payload.
        Command::WRITE => announces == (style == ReplyStyle::Extended),
        // a choice of contexts is a payload.
        Command::BLOCK_STATUS => !announces || export.can_block_status_payload(),
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(InvalidRequest::UnsupportedFlag("PAYLOAD_LEN"))
    }
}

/// Checks that the range lies inside the export, in checked arithmetic (P-115: size constraints).
fn check_bounds(
    export: &Export,
    command: Command,
    offset: u64,
    length: u64,
) -> Result<(), InvalidRequest> {
    let size = export.size;
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        _ => Err(InvalidRequest::OutOfBounds {
            command,
            offset,
            length,
            size,
        }),
    }
}

/// Checks the alignment (P-114: offset and length are whole blocks).
fn check_alignment(
    export: &Export,
    command: Command,
    offset: u64,
    length: u64,
) -> Result<(), InvalidRequest> {
    let alignment = export.alignment();
    let block = u64::from(alignment);
    // P-121: the export may end inside a block, and its last bytes can be reached.
    let is_tail = offset.checked_add(length) == Some(export.size);
    if offset % block == 0 && (length % block == 0 || is_tail) {
        return Ok(());
    }
    Err(InvalidRequest::Unaligned {
        command,
        offset,
        length,
        alignment,
    })
}
