//! Columns for a terminal.

use super::show::Look;
use unicode_width::UnicodeWidthStr;

/// Rows of one length under a head. Cells are text of others: they come in their harmless form.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub fn new(head: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Self { head, rows: rows.into_iter().collect() }
    }

    /// The lines; `none` in their stead where there are no rows.
    pub fn text(&self, none: &str, look: &Look) -> String {
        if self.rows.is_empty() {
            return format!("{none}\n");
        }
        let widths: [usize; N] = std::array::from_fn(|column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
            cells.chain(self.head.get(column).map(|head| head.width())).max().unwrap_or_default()
        });
        let head = look.strong(&line(self.head.iter().copied(), &widths));
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str), &widths));
        std::iter::once(head).chain(rows).map(|line| line + "\n").collect()
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let padded = |(cell, width): (&str, &usize)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width())));
    let line = cells.zip(widths).map(padded).collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_whatever_the_script() {
        let rows = [["日本".to_owned(), "x".into()], ["bob".into(), "y".into()]];
        let text = Table::new(["NAME", "N"], rows).text("", &Look::default());
        assert_eq!(text, "NAME  N\n日本  x\nbob   y\n");
        assert_eq!(Table::new(["NAME"], []).text("nobody", &Look::default()), "nobody\n");
    }
}
