#include "bars.h"

#include <fmt/format.h>

#include <algorithm>

#include "drawing.h"

namespace tilewise::cli {
namespace {

constexpr double kLeft = 250, kWidth = 480, kRight = 110;  // names, bars, texts
constexpr double kTop = 62, kRow = 20, kGroupTitle = 30, kBottom = 20;
constexpr Colour kBar{120, 160, 215}, kMark{40, 90, 170};

double height_of(const BarChart& chart) {
  double height = kTop + kBottom;
  for (const BarGroup& group : chart.groups) height += kGroupTitle + kRow * static_cast<double>(group.bars.size());
  return height;
}

void draw_axis(cairo_t* to, const BarChart& chart, double bottom) {
  cairo_set_line_width(to, 1);
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const double share = 0.25 * quarter, x = kLeft + kWidth * share;
    set_colour(to, kFaint);
    draw_line(to, x, kTop, x, bottom);
    set_colour(to, kInk);
    draw_text(to, x, kTop - 6, fmt::format("{:g}", share), Align::middle);
  }
  draw_text(to, 20, kTop - 6, chart.axis);
}

void draw_bar(cairo_t* to, const Bar& bar, double y) {
  const auto place = [](double share) { return kLeft + kWidth * std::clamp(share, 0.0, 1.0); };
  set_colour(to, kBar);
  cairo_rectangle(to, kLeft, y - 12, place(bar.best) - kLeft, 14);
  cairo_fill(to);
  set_colour(to, kMark);
  cairo_set_line_width(to, 2);
  draw_line(to, place(bar.median), y - 12, place(bar.median), y + 2);
  set_colour(to, kInk);
  draw_text(to, kLeft - 8, y, bar.name.size() > 36 ? bar.name.substr(0, 33) + "..." : bar.name, Align::right);
  draw_text(to, place(bar.best) + 6, y, bar.text);
}

void draw(cairo_t* to, const BarChart& chart, double height) {
  draw_title(to, chart.title);
  draw_axis(to, chart, height - kBottom);
  double y = kTop;
  for (const BarGroup& group : chart.groups) {
    draw_text(to, 20, y + kGroupTitle - 8, group.title);
    y += kGroupTitle;
    for (const Bar& bar : group.bars) draw_bar(to, bar, y += kRow);
  }
}

}  // namespace

void write_bars(const BarChart& chart, const std::string& path) {
  const double height = height_of(chart);
  write_drawing(path, kLeft + kWidth + kRight, height, [&](cairo_t* to) { draw(to, chart, height); });
}

}  // namespace tilewise::cli
