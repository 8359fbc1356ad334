//! One numbering of groups over a whole transfer: a file's own, or those of a folder's files one after another. Who plans,
//! keeps what is verified, or says what is here counts in it, and needs not know of files.

use std::ops::Range;

use super::exchange::Ask;
use super::tree::{Geometry, Root, TooLarge};
use crate::limits::{FILE_SIZE_MAX, ITEMS_PER_ASK};

/// The files of a transfer in a row.
#[derive(Debug, Clone)]
pub struct Space {
    first_item: u32,
    files: Vec<Place>,
    groups: u64,
    size: u64,
}

#[derive(Debug, Clone)]
struct Place {
    // The number of its first group, and bytes of all files before it.
    base: u64,
    offset: u64,
    geometry: Geometry,
    root: Root,
}

/// A part of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The file's item number.
    pub item: u32,
    /// Its shape.
    pub geometry: Geometry,
    /// Its root.
    pub root: Root,
    /// Its own groups.
    pub groups: Range<u64>,
}

impl Space {
    /// A single file: item 0.
    pub fn file(geometry: Geometry, root: Root) -> Self {
        let files = vec![Place { base: 0, offset: 0, geometry, root }];
        Self { first_item: 0, files, groups: geometry.groups(), size: geometry.size() }
    }

    /// The files of a folder: item 1 and up, each with its size and root.
    pub fn folder(files: impl IntoIterator<Item = (u64, Root)>) -> Result<Self, TooLarge> {
        let mut space = Self { first_item: 1, files: Vec::new(), groups: 0, size: 0 };
        for (size, root) in files {
            let geometry = Geometry::new(size)?;
            space.files.push(Place { base: space.groups, offset: space.size, geometry, root });
            // Files are counted, and each is below 2^50.
            space.groups = space.groups.saturating_add(geometry.groups());
            space.size = space.size.saturating_add(size);
            if space.size > FILE_SIZE_MAX {
                return Err(TooLarge(space.size));
            }
        }
        Ok(space)
    }

    /// Groups of all files.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that `groups` have.
    pub fn bytes(&self, groups: &Range<u64>) -> u64 {
        self.offset(groups.end).saturating_sub(self.offset(groups.start))
    }

    /// The number of an item's first group; `None` for an item that is not here.
    pub fn base(&self, item: u32) -> Option<u64> {
        self.place(item).map(|place| place.base)
    }

    /// An item whole.
    pub fn item(&self, item: u32) -> Option<Span> {
        let place = self.place(item)?;
        let (geometry, root) = (place.geometry, place.root);
        Some(Span { item, geometry, root, groups: 0..geometry.groups() })
    }

    /// The parts of files that `groups` are, in order.
    pub fn spans(&self, groups: Range<u64>) -> impl Iterator<Item = Span> + '_ {
        let from = self.files.partition_point(|place| place.base <= groups.start).saturating_sub(1);
        let (start, end) = (groups.start, groups.end.min(self.groups));
        (self.first_item..).zip(&self.files).skip(from).take_while(move |(_, place)| place.base < end).filter_map(
            move |(item, place)| {
                let own = start.max(place.base) - place.base..(end - place.base).min(place.geometry.groups());
                let (geometry, root) = (place.geometry, place.root);
                (!own.is_empty()).then_some(Span { item, geometry, root, groups: own })
            },
        )
    }

    /// What to ask for to get `groups`: whole files that follow each other go into one ask. With each, the parts of files
    /// that answer it.
    pub fn asks(&self, groups: Range<u64>) -> Vec<(Ask, Vec<Span>)> {
        let mut asks: Vec<(Ask, Vec<Span>)> = Vec::new();
        for span in self.spans(groups) {
            let whole = self.first_item > 0 && span.groups == (0..span.geometry.groups());
            match asks.last_mut() {
                Some((Ask::Items { count, .. }, spans)) if whole && *count < ITEMS_PER_ASK => {
                    *count += 1;
                    spans.push(span);
                }
                _ if whole => asks.push((Ask::Items { first: span.item, count: 1 }, vec![span])),
                _ => {
                    let Range { start, end } = span.groups;
                    asks.push((Ask::Want { item: span.item, first: start, count: end - start }, vec![span]));
                }
            }
        }
        asks
    }

    fn place(&self, item: u32) -> Option<&Place> {
        self.files.get(usize::try_from(item.checked_sub(self.first_item)?).ok()?)
    }

    /// Bytes of the files before a group.
    fn offset(&self, group: u64) -> u64 {
        let at = self.files.partition_point(|place| place.base <= group).saturating_sub(1);
        let Some(place) = self.files.get(at).filter(|_| group < self.groups) else { return self.size };
        place.offset + place.geometry.bytes(&(0..group - place.base)).end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::tree::GROUP;

    fn folder() -> Space {
        Space::folder([10, 0, 3 * GROUP + 1, 7, GROUP, 2].map(|size| (size, [size as u8; 32]))).unwrap()
    }

    #[test]
    fn groups_of_all_files_are_numbered_through() {
        let space = folder();
        assert_eq!((space.groups(), space.size()), (9, 4 * GROUP + 20));
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7, 0].map(|item| space.base(item)).map(|b| b.unwrap_or(99)),
            [0, 1, 2, 6, 7, 8, 99, 99]
        );
        assert_eq!(space.bytes(&(0..9)), space.size());
        assert_eq!([0, 1, 2, 5, 6, 7, 8].map(|g| space.bytes(&(g..g + 1))), [10, 0, GROUP, 1, 7, GROUP, 2]);
        let spans: Vec<_> = space.spans(1..4).map(|span| (span.item, span.groups)).collect();
        assert_eq!(spans, [(2, 0..1), (3, 0..2)]);
        assert_eq!(space.spans(9..12).count() + space.spans(3..3).count(), 0);
    }

    #[test]
    fn whole_files_share_an_ask() {
        let asks: Vec<_> = folder().asks(0..9).into_iter().map(|(ask, _)| ask).collect();
        assert_eq!(asks, [Ask::Items { first: 1, count: 6 }]);
        let asks: Vec<_> = folder().asks(3..8).into_iter().map(|(ask, spans)| (ask, spans.len())).collect();
        assert_eq!(asks, [(Ask::Want { item: 3, first: 1, count: 3 }, 1), (Ask::Items { first: 4, count: 2 }, 2)]);
        let file = Space::file(Geometry::new(5 * GROUP).unwrap(), [0; 32]);
        assert_eq!(file.asks(0..5).len(), 1);
        assert_eq!(file.asks(0..5)[0].0, Ask::Want { item: 0, first: 0, count: 5 });
        let many = Space::folder((0..10_000).map(|_| (1, [0; 32]))).unwrap();
        assert_eq!(many.asks(0..10_000).len(), 3);
    }

    #[test]
    fn sizes_that_add_up_to_too_much_are_refused() {
        assert!(Space::folder([(FILE_SIZE_MAX, [0; 32]), (1, [0; 32])]).is_err());
        assert!(Space::folder([(u64::MAX, [0; 32])]).is_err());
    }
}
