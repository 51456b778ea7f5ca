#include "picture.h"

#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "new_file.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

/// Pixels of a cell's side: large maps get small cells, so that a picture stays around a thousand pixels wide.
std::int64_t cell_side(const Grid& grid) {
  return std::clamp<std::int64_t>(1024 / std::max<std::int64_t>({grid.rows, grid.columns, 1}), 1, 32);
}

void write_png(const Grid& grid, NewFile& output) {
  const std::int64_t side = cell_side(grid);
  // libpng reports errors by a jump over our frames unless a function throws in its place.
  const auto fail = [](png_structp, png_const_charp message) {
    throw Error(ErrorCode::io, fmt::format("PNG: {}", message));
  };
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, fail, nullptr);
  png_infop info = png_create_info_struct(png);
  const auto free_png = [&info](png_structp p) { png_destroy_write_struct(&p, &info); };
  const std::unique_ptr<png_struct, decltype(free_png)> owner(png, free_png);

  png_init_io(png, output.file());
  const auto width = static_cast<png_uint_32>(grid.columns * side), height = static_cast<png_uint_32>(grid.rows * side);
  png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_color> palette;
  for (const CellStyle& style : grid.styles)
    palette.push_back({style.colour.red, style.colour.green, style.colour.blue});
  png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  png_write_info(png, info);
  std::vector<png_byte> row(width);
  for (std::int64_t y = 0; y < grid.rows * side; ++y) {
    for (std::int64_t x = 0; x < grid.columns * side; ++x)
      row[static_cast<std::size_t>(x)] = grid.at(y / side, x / side);
    png_write_row(png, row.data());
  }
  png_write_end(png, info);
}

std::string hex(Colour colour) { return fmt::format("#{:02x}{:02x}{:02x}", colour.red, colour.green, colour.blue); }

/// Text for XML.
std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else
      result += c;
  }
  return result;
}

void write_svg(const Grid& grid, NewFile& output) {
  const std::int64_t side = cell_side(grid), top = 28, left = 24, legend = 28;
  const std::int64_t width = grid.columns * side, height = grid.rows * side;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n",
      std::max<std::int64_t>(width, 480) + left, height + top + legend);
  svg += fmt::format("<text x=\"{}\" y=\"16\">{}</text>\n", left, escaped(grid.title));
  svg += fmt::format("<text x=\"12\" y=\"{}\" transform=\"rotate(-90 12 {})\">{}</text>\n", top + height, top + height,
                     escaped(grid.row_axis));
  for (std::int64_t row = 0; row < grid.rows; ++row) {
    for (std::int64_t column = 0; column < grid.columns;) {  // a run of equal cells is one rectangle
      std::int64_t end = column + 1;
      while (end < grid.columns && grid.at(row, end) == grid.at(row, column)) ++end;
      svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n", left + column * side,
                         top + row * side, (end - column) * side, side, hex(grid.styles[grid.at(row, column)].colour));
      column = end;
    }
  }
  std::int64_t x = left;
  for (const CellStyle& style : grid.styles) {
    svg += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\" stroke=\"#888\"/><text x=\"{}\" "
        "y=\"{}\">{}</text>\n",
        x, top + height + 9, hex(style.colour), x + 18, top + height + 19, escaped(style.name));
    x += 110;
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n</svg>\n", x, top + height + 19, escaped(grid.column_axis));
  std::fwrite(svg.data(), 1, svg.size(), output.file());
}

}  // namespace

std::string terminal_picture(const Grid& grid) {
  std::string text;
  for (std::int64_t row = 0; row < grid.rows; ++row) {
    text += "  ";
    for (std::int64_t column = 0; column < grid.columns; ++column) text += grid.styles[grid.at(row, column)].glyph;
    text += '\n';
  }
  std::vector<std::string> legend;
  for (const CellStyle& style : grid.styles) legend.push_back(fmt::format("{} {}", style.glyph, style.name));
  return text + fmt::format("  {}; rows: {}, columns: {}\n", fmt::join(legend, ", "), grid.row_axis, grid.column_axis);
}

void write_picture(const Grid& grid, const std::string& path) {
  expect_picture_path(path);
  if (grid.rows == 0 || grid.columns == 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--plot {}: there is nothing to draw, expected at least one query and one key", path));
  }
  NewFile output(path);
  if (extension_of(path) == ".png")
    write_png(grid, output);
  else
    write_svg(grid, output);
  output.publish();
}

}  // namespace tilewise::cli
