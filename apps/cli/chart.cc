#include "chart.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numbers>

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

enum class Align { left, middle, right };

void draw_text(cairo_t* to, double x, double y, const std::string& text, Align align = Align::left) {
  cairo_text_extents_t extents;
  cairo_text_extents(to, text.c_str(), &extents);
  const double shift = align == Align::left ? 0 : align == Align::middle ? 0.5 : 1.0;
  cairo_move_to(to, x - shift * extents.x_advance, y);
  cairo_show_text(to, text.c_str());
}

void set_colour(cairo_t* to, Colour colour) {
  cairo_set_source_rgb(to, colour.red / 255.0, colour.green / 255.0, colour.blue / 255.0);
}

constexpr Colour kInk{40, 40, 40}, kFaint{225, 225, 225};

void draw_line(cairo_t* to, double x1, double y1, double x2, double y2) {
  cairo_move_to(to, x1, y1);
  cairo_line_to(to, x2, y2);
  cairo_stroke(to);
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
  cairo_set_source_rgb(to, 1, 1, 1);
  cairo_paint(to);
  set_colour(to, kInk);
  cairo_select_font_face(to, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
  cairo_set_font_size(to, 15);
  draw_text(to, 20, 26, chart.title);
  cairo_select_font_face(to, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(to, 12);
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

cairo_status_t append(void* output, const unsigned char* bytes, unsigned int count) {
  return std::fwrite(bytes, 1, count, static_cast<NewFile*>(output)->file()) == count ? CAIRO_STATUS_SUCCESS
                                                                                      : CAIRO_STATUS_WRITE_ERROR;
}

}  // namespace

void write_chart(const Chart& chart, const std::string& path) {
  expect_picture_path(path);
  for (const Panel& panel : chart.panels) {
    if (std::ranges::all_of(panel.series, [](const Series& series) { return series.x.empty(); }))
      throw Error(ErrorCode::invalid_argument, fmt::format("--plot {}: nothing was measured, nothing to draw", path));
  }
  constexpr int kScale = 2;  // pixels of a PNG for each unit, for fine screens
  const double width = kPanelWidth * static_cast<double>(chart.panels.size()) + 8;
  const double height = kTop + kPanelHeight + kBottom;
  const bool is_png = extension_of(path) == ".png";
  NewFile output(path);
  const auto free_surface = [](cairo_surface_t* surface) { cairo_surface_destroy(surface); };
  const std::unique_ptr<cairo_surface_t, decltype(free_surface)> surface(
      is_png ? cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width) * kScale,
                                          static_cast<int>(height) * kScale)
             : cairo_svg_surface_create_for_stream(append, &output, width, height),
      free_surface);
  cairo_t* to = cairo_create(surface.get());
  if (is_png) cairo_scale(to, kScale, kScale);
  draw(to, chart);
  cairo_status_t status = cairo_status(to);
  cairo_destroy(to);
  if (is_png && status == CAIRO_STATUS_SUCCESS)
    status = cairo_surface_write_to_png_stream(surface.get(), append, &output);
  cairo_surface_finish(surface.get());
  if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_status(surface.get());
  if (status != CAIRO_STATUS_SUCCESS)
    throw Error(ErrorCode::io, fmt::format("{}: could not be written ({})", path, cairo_status_to_string(status)));
  output.publish();
}

}  // namespace tilewise::cli
