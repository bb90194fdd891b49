//! What those who have not signed in may leave behind.

use jiff::Timestamp;
use parking_lot::Mutex;

/// How many new packs a minute are made for those who have not signed in, over all doors.
pub const ANONYMOUS_PACKS: u32 = 60;

/// How many new packs may still be made in this minute.
#[derive(Debug)]
pub struct Quota {
    per_minute: u32,
    /// The minute, and how many were made in it.
    made: Mutex<(i64, u32)>,
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(ANONYMOUS_PACKS)
    }
}

impl Quota {
    /// So many a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, made: Mutex::new((i64::MIN, 0)) }
    }

    /// How many a minute.
    #[must_use]
    pub fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Takes one, if there is one left.
    #[must_use]
    pub fn take(&self, now: Timestamp) -> bool {
        let minute = now.as_second().div_euclid(60);
        let mut made = self.made.lock();
        if made.0 != minute {
            *made = (minute, 0);
        }
        let free = made.1 < self.per_minute;
        made.1 += u32::from(free);
        free
    }
}
