//! Checks that a request passes before any byte of it is sent.

use crate::driver::Link;
use crate::error::InvalidRequest;
use crate::export::Export;
use crate::wire::{Command, CommandFlags, ReplyStyle, TransmissionFlags};

/// Checks command, flags and range against the export.
pub(super) fn check(
    link: &Link,
    command: Command,
    flags: CommandFlags,
    offset: u64,
    length: u64,
) -> Result<(), InvalidRequest> {
    let export = link.export();
    check_command(export, command)?;
    check_flags(export, flags)?;
    if command == Command::FLUSH {
        return Ok(());
    }
    // P-139
    if length == 0 {
        return Err(InvalidRequest::ZeroLength(command));
    }
    check_bounds(export, command, offset, length)?;
    check_alignment(export, command, offset, length)?;
    // K36: a length is refused, never cut off. Reads and writes are split before they come
    // here, and a block status may be answered in part anyway.
    let compact = link.style() != ReplyStyle::Extended;
    let limit = u64::from(u32::MAX);
    let has_limit = matches!(
        command,
        Command::TRIM | Command::WRITE_ZEROES | Command::CACHE
    );
    if compact && has_limit && length > limit {
        return Err(InvalidRequest::TooLong {
            command,
            length,
            limit,
        });
    }
    Ok(())
}

/// P-132, P-149: only what the server offers.
fn check_command(export: &Export, command: Command) -> Result<(), InvalidRequest> {
    let needed = match command {
        Command::FLUSH => TransmissionFlags::SEND_FLUSH,
        Command::TRIM => TransmissionFlags::SEND_TRIM,
        Command::WRITE_ZEROES => TransmissionFlags::SEND_WRITE_ZEROES,
        Command::CACHE => TransmissionFlags::SEND_CACHE,
        _ => TransmissionFlags::empty(),
    };
    if !export.flags.contains(needed) {
        return Err(InvalidRequest::Unsupported(command));
    }
    let writes = matches!(
        command,
        Command::WRITE | Command::TRIM | Command::WRITE_ZEROES
    );
    if writes && export.is_read_only() {
        return Err(InvalidRequest::ReadOnly(command));
    }
    Ok(())
}

/// P-132: only flags the server offers. That they fit the command is seen to by types.
fn check_flags(export: &Export, flags: CommandFlags) -> Result<(), InvalidRequest> {
    for (flag, needed, name) in [
        (CommandFlags::FUA, TransmissionFlags::SEND_FUA, "FUA"),
        (CommandFlags::DF, TransmissionFlags::SEND_DF, "DF"),
        (
            CommandFlags::FAST_ZERO,
            TransmissionFlags::SEND_FAST_ZERO,
            "FAST_ZERO",
        ),
        (
            CommandFlags::PAYLOAD_LEN,
            TransmissionFlags::BLOCK_STATUS_PAYLOAD,
            "PAYLOAD_LEN",
        ),
    ] {
        if flags.contains(flag) && !export.flags.contains(needed) {
            return Err(InvalidRequest::UnsupportedFlag(name));
        }
    }
    Ok(())
}

/// P-115, in checked arithmetic.
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

/// P-114
fn check_alignment(
    export: &Export,
    command: Command,
    offset: u64,
    length: u64,
) -> Result<(), InvalidRequest> {
    let alignment = export.alignment();
    let block = u64::from(alignment);
    // P-121: the size need not be a multiple of the block; its last bytes can still be reached.
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
