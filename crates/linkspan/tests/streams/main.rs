//! Streams, seen from outside: real clients write to the gateway, real clusters are read and written.

mod kinesis;
