//! The table of commands: what the protocol says of each ("Request types").

use super::{Command, CommandFlags, TransmissionFlags};

/// What the protocol says of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandSpec {
    /// The transmission flag by which a server offers the command; none for those that every
    /// server has.
    pub(crate) offer: TransmissionFlags,
    /// The flags that are documented for the command.
    pub(crate) flags: CommandFlags,
    /// Which way data goes.
    pub(crate) data: Data,
    /// Whether the command is about a range of the export.
    pub(crate) has_range: bool,
    /// Whether the command changes the content of its range.
    pub(crate) changes: bool,
}

/// Which way the data of a command goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Data {
    /// There is none.
    None,
    /// To the server.
    Sent,
    /// From the server.
    Received,
}

impl Command {
    /// The row of this command; `None` for a command that the client does not send as a request.
    #[inline]
    pub(crate) const fn spec(self) -> Option<CommandSpec> {
        use CommandFlags as F;
        use TransmissionFlags as T;
        let none = F::empty();
        let fua_payload = F::FUA.union(F::PAYLOAD_LEN);
        let zeroes = F::FUA.union(F::NO_HOLE).union(F::FAST_ZERO);
        let status = F::REQ_ONE.union(F::PAYLOAD_LEN);
        Some(match self {
            // The flag that offers it, its flags, its data, whether it has a range and changes that
            // range.
            Self::READ => row(T::empty(), F::DF, Data::Received, true, false),
            Self::WRITE => row(T::empty(), fua_payload, Data::Sent, true, true),
            Self::FLUSH => row(T::SEND_FLUSH, none, Data::None, false, false),
            Self::TRIM => row(T::SEND_TRIM, F::FUA, Data::None, true, true),
            Self::CACHE => row(T::SEND_CACHE, none, Data::None, true, false),
            Self::WRITE_ZEROES => row(T::SEND_WRITE_ZEROES, zeroes, Data::None, true, true),
            Self::BLOCK_STATUS => row(T::empty(), status, Data::None, true, false),
            _ => return None,
        })
    }

    /// Whether the command changes the content of the export.
    #[inline]
    pub(crate) const fn changes(self) -> bool {
        matches!(self.spec(), Some(spec) if spec.changes)
    }

    /// Whether the command is about a range of the export.
    #[inline]
    pub(crate) const fn has_range(self) -> bool {
        matches!(self.spec(), Some(spec) if spec.has_range)
    }

    /// Whether the command moves data, in either direction.
    #[inline]
    pub(crate) const fn has_data(self) -> bool {
        matches!(self.spec(), Some(spec) if !matches!(spec.data, Data::None))
    }
}

const fn row(
    offer: TransmissionFlags,
    flags: CommandFlags,
    data: Data,
    has_range: bool,
    changes: bool,
) -> CommandSpec {
    CommandSpec {
        offer,
        flags,
        data,
        has_range,
        changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_export_is_known() {
        for (command, changes, has_data) in [
            (Command::READ, false, true),
            (Command::WRITE, true, true),
            (Command::FLUSH, false, false),
            (Command::TRIM, true, false),
            (Command::CACHE, false, false),
            (Command::WRITE_ZEROES, true, false),
            (Command::BLOCK_STATUS, false, false),
            (Command::DISC, false, false),
            (Command(99), false, false),
        ] {
            assert_eq!(command.changes(), changes, "{command}");
            assert_eq!(command.has_data(), has_data, "{command}");
            let has_range = command.spec().is_some() && command != Command::FLUSH;
            assert_eq!(command.has_range(), has_range, "{command}");
        }
    }
}
