//! Rows of figures as few bytes.
//!
//! A row stands for one step of time (its slot is Unix seconds divided by the step) and holds a mean and a highest
//! value for each column, as whole numbers. Written is what differs from the row before:
//!
//! ```text
//! varint  slots since the row before (of the first: its slot)
//! varint  columns whose mean changed, one bit each, shifted left by one; lowest bit: a mask of highs follows
//! varint  columns whose excess (highest less mean) changed
//! varint  zigzag difference, for each bit of the first mask, then of the second
//! ```
//!
//! A process that does nothing costs two bytes a row. Values are kept plus one, so that 0 means "not known". Bytes
//! that make no sense end the reading; nothing in them can make it fail otherwise.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate; bytes are cut on purpose"
)]

use super::columns::{Values, WIDTH};

/// One step of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Unix seconds divided by the step.
    pub(crate) slot: u64,
    /// Value plus one; 0: not known.
    means: [u64; WIDTH],
    /// Highest less mean.
    excess: [u64; WIDTH],
}

impl Row {
    const EMPTY: Self = Self {
        slot: 0,
        means: [0; WIDTH],
        excess: [0; WIDTH],
    };

    /// Values at one moment.
    pub(crate) fn new(slot: u64, values: &Values, scales: &[f64; WIDTH]) -> Self {
        let mut row = Self { slot, ..Self::EMPTY };
        for (column, value) in values.iter().enumerate() {
            row.set(column, *value, *value, scales);
        }
        row
    }

    fn set(&mut self, column: usize, mean: Option<f64>, high: Option<f64>, scales: &[f64; WIDTH]) {
        let (Some(mean), Some(scale)) = (mean, scales.get(column)) else {
            return;
        };
        let whole = |value: f64| (value.max(0.0) * scale).round().min(1e15) as u64;
        let mean = whole(mean);
        if let (Some(stored), Some(excess)) = (self.means.get_mut(column), self.excess.get_mut(column)) {
            *stored = mean + 1;
            *excess = high.map_or(0, |high| whole(high).saturating_sub(mean));
        }
    }

    /// Mean and highest of a column.
    pub(crate) fn get(&self, column: usize, scales: &[f64; WIDTH]) -> Option<(f64, f64)> {
        let mean = self.means.get(column)?.checked_sub(1)?;
        let high = mean + self.excess.get(column)?;
        let scale = scales.get(column)?;
        Some((mean as f64 / scale, high as f64 / scale))
    }
}

/// Rows that are being written, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    last: Option<Box<Row>>,
}

impl Writer {
    /// Adds a row. One that is not later than the last is left out: `false`.
    pub(crate) fn push(&mut self, row: &Row) -> bool {
        let last = self.last.as_deref().copied().unwrap_or(Row::EMPTY);
        if self.last.is_some() && row.slot <= last.slot {
            return false;
        }
        put(&mut self.bytes, row.slot - last.slot);
        let changed = |now: &[u64; WIDTH], before: &[u64; WIDTH]| {
            let pairs = now.iter().zip(before).enumerate();
            pairs
                .filter(|(_, (now, before))| now != before)
                .fold(0_u64, |mask, (column, _)| mask | 1 << column)
        };
        let means = changed(&row.means, &last.means);
        let excess = changed(&row.excess, &last.excess);
        put(&mut self.bytes, means << 1 | u64::from(excess != 0));
        if excess != 0 {
            put(&mut self.bytes, excess);
        }
        for (now, before) in [(&row.means, &last.means), (&row.excess, &last.excess)] {
            for (now, before) in now.iter().zip(before).filter(|(now, before)| now != before) {
                put(&mut self.bytes, zigzag(now.wrapping_sub(*before)));
            }
        }
        match &mut self.last {
            Some(last) => **last = *row,
            None => self.last = Some(Box::new(*row)),
        }
        true
    }

    /// What was written so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Slot of the last row.
    pub(crate) fn last_slot(&self) -> Option<u64> {
        self.last.as_deref().map(|row| row.slot)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins anew, keeping the room.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.last = None;
    }

    /// From rows, oldest first.
    pub(crate) fn of(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut writer = Self::default();
        for row in rows {
            writer.push(&row);
        }
        writer
    }
}

/// Reads rows.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    last: Row,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            last: Row::EMPTY,
        }
    }

    fn row(&mut self) -> Option<Row> {
        self.last.slot = self.last.slot.checked_add(take(&mut self.bytes)?)?;
        let means = take(&mut self.bytes)?;
        let excess = if means & 1 == 1 { take(&mut self.bytes)? } else { 0 };
        for (mask, columns) in [
            (means >> 1, &mut self.last.means),
            (excess, &mut self.last.excess),
        ] {
            for (column, value) in columns.iter_mut().enumerate() {
                if mask >> column & 1 == 1 {
                    *value = value.wrapping_add(unzigzag(take(&mut self.bytes)?));
                    // What cannot have been written is not known.
                    if *value > 1 << 52 {
                        *value = 0;
                    }
                }
            }
        }
        Some(self.last)
    }
}

impl Iterator for Reader<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if self.bytes.is_empty() {
            return None;
        }
        let row = self.row();
        if row.is_none() {
            self.bytes = &[];
        }
        row
    }
}

/// Rows of both, by slot; where both have one, that of `newer`.
pub(crate) fn merge(older: &[u8], newer: &[u8]) -> Writer {
    let mut newer = Reader::new(newer).peekable();
    let mut older = Reader::new(older).peekable();
    let mut merged = Writer::default();
    loop {
        let first = match (older.peek(), newer.peek()) {
            (None, None) => return merged,
            (Some(old), Some(new)) if old.slot < new.slot => older.next(),
            (Some(old), Some(new)) => {
                if old.slot == new.slot {
                    older.next();
                }
                newer.next()
            }
            (Some(_), None) => older.next(),
            (None, Some(_)) => newer.next(),
        };
        if let Some(row) = first {
            merged.push(&row);
        }
    }
}

/// Many rows as one: means of means, highest of highs.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    sums: [f64; WIDTH],
    counts: [u32; WIDTH],
    highs: [f64; WIDTH],
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            sums: [0.0; WIDTH],
            counts: [0; WIDTH],
            highs: [0.0; WIDTH],
        }
    }
}

impl Sum {
    pub(crate) fn add(&mut self, row: &Row, scales: &[f64; WIDTH]) {
        for column in 0..WIDTH {
            if let Some((mean, high)) = row.get(column, scales) {
                self.sums[column] += mean;
                self.counts[column] += 1;
                self.highs[column] = self.highs[column].max(high);
            }
        }
    }

    pub(crate) fn row(&self, slot: u64, scales: &[f64; WIDTH]) -> Row {
        let mut row = Row { slot, ..Row::EMPTY };
        for column in 0..WIDTH {
            let count = self.counts[column];
            if count > 0 {
                let mean = self.sums[column] / f64::from(count);
                row.set(column, Some(mean), Some(self.highs[column]), scales);
            }
        }
        row
    }
}

/// A number, seven bits a byte, lowest first.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The way back; `None` where the bytes end or do not end.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn zigzag(difference: u64) -> u64 {
    let signed = difference.cast_signed();
    (signed << 1 ^ signed >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ 0_u64.wrapping_sub(number & 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use upkeep_api::metrics::Of;

    use super::*;
    use crate::metrics::columns::scales;

    fn values() -> impl Strategy<Value = Values> {
        proptest::array::uniform20(proptest::option::of(0.0..1e9_f64))
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_written(all in proptest::collection::vec((1..50_u64, values()), 0..40)) {
            let scales = scales(Of::Instance);
            let mut slot = 1_795_000_000;
            let rows: Vec<Row> = all.iter().map(|(gap, values)| {
                slot += gap;
                let mut sum = Sum::default();
                sum.add(&Row::new(slot, values, &scales), &scales);
                sum.add(&Row::new(slot, &[Some(5.0); WIDTH], &scales), &scales);
                sum.row(slot, &scales)
            }).collect();
            let written = Writer::of(rows.iter().copied());
            let read: Vec<Row> = Reader::new(written.bytes()).collect();
            prop_assert_eq!(&read, &rows);
            let half = rows.len() / 2;
            let (old, new) = (Writer::of(rows[..half].iter().copied()), Writer::of(rows[half / 2..].iter().copied()));
            let merged: Vec<Row> = Reader::new(merge(old.bytes(), new.bytes()).bytes()).collect();
            prop_assert_eq!(merged, rows);
        }

        #[test]
        fn no_bytes_make_reading_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let scales = scales(Of::Host);
            for row in Reader::new(&bytes) {
                for column in 0..WIDTH {
                    let value = row.get(column, &scales);
                    prop_assert!(value.is_none_or(|(mean, high)| mean <= high && mean >= 0.0));
                }
            }
        }
    }

    #[test]
    fn what_does_not_change_costs_two_bytes_a_row() {
        let scales = scales(Of::Instance);
        let values = [Some(1_024_000.0); WIDTH];
        let mut writer = Writer::of([Row::new(100, &values, &scales)]);
        let first = writer.bytes().len();
        for slot in 101..161 {
            assert!(writer.push(&Row::new(slot, &values, &scales)));
        }
        assert!(!writer.push(&Row::new(160, &values, &scales)), "not later");
        assert_eq!(writer.bytes().len() - first, 120);
        assert_eq!(
            Row::new(1, &values, &scales).get(1, &scales),
            Some((1_024_000.0, 1_024_000.0))
        );
    }
}
