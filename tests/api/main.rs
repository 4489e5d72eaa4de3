//! The public interface against the in-process server.

mod smoke;
