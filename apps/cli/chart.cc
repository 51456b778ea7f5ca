#include "chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "drawing.h"
#include "new_file.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr double kPanelWidth = 460, kPanelHeight = 340;
constexpr double kLeft = 78, kRight = 16, kTop = 84, kBottom = 76;  // room around a panel's lines

struct Range {
  double low, high;

  /// Where a value lies, 0 to 1.
  double place(double value) const { return (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)); }
};

/// The area that a panel's lines are drawn in.
struct Area {
  double left, top, width, height;
  Range x, y;

  double at_x(double value) const { return left + width * x.place(value); }
  double at_y(double value) const { return top + height * (1 - y.place(value)); }
};

/// All values of an axis, widened to whole powers of `base`.
Range range_of(const Panel& panel, std::vector<double> Series::*axis, double base) {
  double low = HUGE_VAL, high = 0;
  for (const Series& series : panel.series) {
    for (double value : series.*axis) low = std::min(low, value), high = std::max(high, value);
  }
  const auto power = [base](double value, auto round) {
    return std::pow(base, round(std::log(value) / std::log(base)));
  };
  constexpr double kSlack = 1e-9;  // a power that was rounded stays where it is
  low = power(low * (1 + kSlack), [](double v) { return std::floor(v); });
  high = power(high * (1 - kSlack), [](double v) { return std::ceil(v); });
  return {low, std::max(high, low * base)};
}

void draw_axes(cairo_t* to, const Panel& panel, const Area& area) {
  cairo_set_line_width(to, 1);
  const auto tick = [&](bool along_x, double value) {
    set_colour(to, kFaint);
    if (along_x)
      draw_line(to, area.at_x(value), area.top, area.at_x(value), area.top + area.height);
    else
      draw_line(to, area.left, area.at_y(value), area.left + area.width, area.at_y(value));
    set_colour(to, kInk);
    if (along_x)
      draw_text(to, area.at_x(value), area.top + area.height + 18, panel.x_text(value), Align::middle);
    else
      draw_text(to, area.left - 8, area.at_y(value) + 4, panel.y_text(value), Align::right);
  };
  for (double x = area.x.low; x <= area.x.high * 1.0001; x *= 2) tick(true, x);
  for (double y = area.y.low; y <= area.y.high * 1.0001; y *= 10) tick(false, y);
  draw_text(to, area.left + area.width / 2, area.top + area.height + 38, panel.x_axis, Align::middle);
  draw_text(to, area.left, area.top - 12, panel.title);
}

void draw_series(cairo_t* to, const Series& series, const Area& area, double line_width) {
  set_colour(to, series.colour);
  cairo_set_line_width(to, line_width);
  cairo_new_path(to);  // text leaves a point behind
  for (std::size_t i = 0; i < series.x.size(); ++i) cairo_line_to(to, area.at_x(series.x[i]), area.at_y(series.y[i]));
  cairo_stroke(to);
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    cairo_arc(to, area.at_x(series.x[i]), area.at_y(series.y[i]), 3, 0, 2 * std::numbers::pi);
    cairo_fill(to);
  }
}

void draw_legend(cairo_t* to, const Chart& chart, double x, double y) {
  for (const Series& series : chart.panels.front().series) {
    set_colour(to, series.colour);
    cairo_rectangle(to, x, y - 9, 18, 4);
    cairo_fill(to);
    set_colour(to, kInk);
    draw_text(to, x + 24, y, series.name);
    cairo_text_extents_t extents;
    cairo_text_extents(to, series.name.c_str(), &extents);
    x += 24 + extents.x_advance + 24;
  }
}

void draw(cairo_t* to, const Chart& chart) {
  draw_title(to, chart.title);
  draw_legend(to, chart, 20, 48);
  for (std::size_t i = 0; i < chart.panels.size(); ++i) {
    const Panel& panel = chart.panels[i];
    const Area area{static_cast<double>(i) * kPanelWidth + kLeft,
                    kTop,
                    kPanelWidth - kLeft - kRight,
                    kPanelHeight,
                    range_of(panel, &Series::x, 2),
                    range_of(panel, &Series::y, 10)};
    draw_axes(to, panel, area);
    // Later lines lie above: where they cover an earlier one, its wider edge still shows.
    double line_width = 2 + 2 * static_cast<double>(panel.series.size() - 1);
    for (const Series& series : panel.series) {
      draw_series(to, series, area, line_width);
      line_width -= 2;
    }
  }
  set_colour(to, kInk);
  draw_text(to, 20, kTop + kPanelHeight + kBottom - 12, chart.note);
}

}  // namespace

void write_chart(const Chart& chart, const std::string& path) {
  expect_picture_path(path);
  for (const Panel& panel : chart.panels) {
    if (std::ranges::all_of(panel.series, [](const Series& series) { return series.x.empty(); }))
      throw Error(ErrorCode::invalid_argument, fmt::format("--plot {}: nothing was measured, nothing to draw", path));
  }
  const double width = kPanelWidth * static_cast<double>(chart.panels.size()) + 8;
  write_drawing(path, width, kTop + kPanelHeight + kBottom, [&chart](cairo_t* to) { draw(to, chart); });
}

}  // namespace tilewise::cli
