//! A real server over real TLS that lies to real client processes: each act ends in a named event, and nothing forged is shown.

mod harness;

mod rows;
