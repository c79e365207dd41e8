//! The command line of `coffer tables schema`.

use clap::{Args, Subcommand};
use events::ColumnType;

use super::{ClientArgs, Dropped, Keep, Undrop};
use crate::output::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum TablesCommand {
    Schema(Schema),
    Dropped(Dropped),
    Undrop(Undrop),
    Set(Keep),
}

/// Show the types of a table's columns, or declare them
///
/// Without --set and --remove it only shows. Types that nobody declared follow from what the columns have held. A value that does not
/// fit the declared type of its column is kept in the column _overflow of its row, as it was sent; what was sent before is read again.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// DATABASE.TABLE, or TABLE beside --database
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The table's database
    #[arg(short, long, value_name = "NAME", env = "COFFER_DATABASE")]
    pub(crate) database: Option<String>,
    /// Declare the types of these columns: int, long, float, double, string, boolean or json
    #[arg(long, value_name = "NAME:TYPE", value_delimiter = ',', value_parser = typed)]
    pub(crate) set: Vec<(String, ColumnType)>,
    /// Declare no type for these columns any more
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) remove: Vec<String>,
    /// Show what --set and --remove would make of it, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

fn typed(text: &str) -> Result<(String, ColumnType), String> {
    let (name, kind) = text.rsplit_once(':').ok_or("write NAME:TYPE")?;
    let of = ColumnType::from_td_name(kind).ok_or("the types are int, long, float, double, string, boolean and json")?;
    Ok((name.to_owned(), of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_stands_behind_the_last_colon() {
        assert_eq!(typed("a:b:INT"), Ok(("a:b".into(), ColumnType::Long)));
        assert!(typed("a").is_err() && typed("a:number").is_err());
    }
}
