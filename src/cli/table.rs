//! Tables for people: no borders, columns aligned by the width that characters take. Pure.

use crate::cli::printer::Style;
use comfy_table::{Cell, CellAlignment, ContentArrangement, presets};

/// Space between two columns, in characters.
const GAP: u16 = 2;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A heading and rows below it. A cell is one line: escape names by
/// [`Printer::name`](crate::cli::printer::Printer::name).
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<(Vec<String>, Option<Style>)>,
}

impl Table {
    /// A table with these columns and no rows.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; with a style, the whole row stands out.
    pub fn row(&mut self, cells: Vec<String>, style: Option<Style>) {
        self.rows.push((cells, style));
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines, the heading first, each with the style to show it in.
    #[must_use]
    pub fn lines(&self) -> Vec<(String, Option<Style>)> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|(heading, _)| Cell::new(heading)));
        for (cells, _) in &self.rows {
            table.add_row(cells.iter().map(Cell::new));
        }
        for (column, (_, align)) in table.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, GAP));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        let styles = std::iter::once(Some(Style::Bold)).chain(self.rows.iter().map(|(_, style)| *style));
        table.lines().map(|line| line.trim_end().to_owned()).zip(styles).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_width_and_rows_keep_their_style() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right), ("state", Align::Left)]);
        table.row(vec!["日本.txt".into(), "1.0 GiB".into(), "ok".into()], None);
        table.row(vec!["a".into(), "7 B".into(), "lost".into()], Some(Style::Bad));
        assert_eq!(
            table.lines(),
            [
                ("name         size  state".to_owned(), Some(Style::Bold)),
                ("日本.txt  1.0 GiB  ok".to_owned(), None),
                ("a             7 B  lost".to_owned(), Some(Style::Bad)),
            ]
        );
    }
}
