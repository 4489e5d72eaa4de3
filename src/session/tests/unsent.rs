//! Replies to requests of which the server has no byte.

use super::*;

/// The head of a request that was submitted, whether or not it was written.
fn head_of(cookie: Cookie, command: Command) -> RequestHead {
    RequestHead {
        flags: CommandFlags::empty(),
        command,
        cookie: cookie.0,
        offset: 0,
        length: 512,
    }
}

#[test]
fn a_reply_to_a_request_of_which_no_byte_is_written_kills_the_connection() {
    for style in STYLES {
        for command in [Command::READ, Command::WRITE, Command::FLUSH] {
            for written in [0, 1] {
                let mut wire = Wire::new(style);
                let (first, _) = wire.ask(Command::FLUSH);
                let cookie = wire.command(command);
                wire.write_out(written);
                let reply = error(style, &head_of(cookie, command), Errno::EIO, "", DONE);
                let got = wire.feed(&reply);
                if written > 0 {
                    assert_eq!(got, Ok(()), "it may be refused early");
                    continue;
                }
                assert_eq!(got, Err(ProtocolError::UnknownCookie(cookie.0)));
                let lost = wire.answer(cookie).unwrap_err();
                assert_eq!(lost.delivery(), Delivery::NotSent);
                assert_matches!(wire.answer(first), Err(Error::Protocol(..)));
            }
        }
    }
}

#[test]
fn data_for_a_read_that_is_not_sent_does_not_reach_the_next_one() {
    for style in STYLES {
        let length = 1 << 16;
        let mut wire = Wire::new(style);
        let unsent = wire.read(0, length);
        let head = head_of(unsent, Command::READ);
        let guess = data(style, &head, 0, &vec![9; length as usize], DONE);
        // The data has begun to come when the read is given up, and its slot is free.
        let early = wire.feed(&guess[..100]);
        assert_eq!(early, Err(ProtocolError::UnknownCookie(unsent.0)));
        wire.session.close();
        wire.session.discard_unsent(&mut wire.taken);
        assert_eq!(wire.feed(&guess[100..]), Ok(()), "the connection has ended");
        let lost = wire.answer(unsent).unwrap_err();
        assert_eq!(lost.delivery(), Delivery::NotSent);
    }
}
