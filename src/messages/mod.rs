//! Messages between machines: what is known of them (pure), and the folders and hooks that people and programs meet.

pub mod mailbox;
