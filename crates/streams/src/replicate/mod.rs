//! Replication: topics of one cluster copied to another, exactly once.
