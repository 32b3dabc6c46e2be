#include "kubectl-pointsman/follow.h"

#include <algorithm>
#include <optional>

#include "kube/http/transport.h"
#include "kube/time/time_source.h"
#include "kubectl-pointsman/status.h"

namespace pointsman::plugin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLookInterval{1000};
constexpr std::chrono::seconds kPatience{60};

// A report in the place of the one before. The terminal cuts lines that are too long, so that each
// stays one.
class Screen {
 public:
  explicit Screen(std::ostream& out) : out_(out) { out_ << "\x1b[?7l"; }
  ~Screen() { out_ << "\x1b[?7h" << std::flush; }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void Draw(const std::string& text, size_t rows) {
    if (lines_ > 0) out_ << "\x1b[" << lines_ << "A";
    out_ << "\r\x1b[J";
    lines_ = 0;
    for (size_t at = 0; at < text.size() && (rows == 0 || lines_ + 1 < rows);) {
      const size_t end = std::min(text.find('\n', at), text.size() - 1);
      out_ << text.substr(at, end - at + 1);
      at = end + 1;
      ++lines_;
    }
    out_ << std::flush;
  }

 private:
  std::ostream& out_;
  size_t lines_ = 0;
};

// Shows what comes, in the one way or the other.
class Display {
 public:
  Display(std::ostream& out, bool each_node) : out_(out), each_node_(each_node) {
    if (Terminal::OfStandardOutput().live) screen_.emplace(out);
  }

  void Show(const RolloutView& view) {
    if (screen_) {
      const Terminal terminal = Terminal::OfStandardOutput();  // it may have been resized
      text_ = StatusText(view, each_node_, terminal);
      screen_->Draw(text_, terminal.rows);
    } else {
      ShowLine(StatusLine(view));
    }
  }
  void ShowTrouble(const std::string& message) {
    const std::string line = "the API server does not answer, it is asked again: " + Line(message);
    if (screen_) {
      screen_->Draw(text_ + line + "\n", Terminal::OfStandardOutput().rows);
    } else {
      ShowLine(line);
    }
  }

 private:
  void ShowLine(const std::string& line) {
    if (line == text_) return;
    text_ = line;
    out_ << kube::NowRfc3339() << " " << line << "\n" << std::flush;
  }

  std::ostream& out_;
  const bool each_node_;
  std::optional<Screen> screen_;
  std::string text_;  // that was shown last
};

}  // namespace

RolloutView FetchRollout(Api& api, const std::string& name) {
  kube::ProxyConfiguration configuration = api.Configuration(name);
  std::map<std::string, std::map<std::string, std::string>> labels;
  if (configuration.spec.rollout.canary.node_selector) {
    for (kube::Node& node : api.Nodes())
      labels[node.name] = std::move(node.labels);
  }
  NodeProxies found = api.AllNodeProxies();
  RolloutView view =
      MakeRolloutView(std::move(configuration), std::move(found.proxies), labels, Now());
  view.unreadable = std::move(found.unreadable);
  return view;
}

ExitCode Follow(Api& api, const std::string& name, const FollowOptions& options, std::ostream& out,
                const std::stop_token& stop) {
  const Clock::time_point begin = Clock::now();
  Clock::time_point answered = begin;
  Display display(out, options.each_node);
  std::string followed = name;
  while (!stop.stop_requested()) {
    const Clock::time_point asked = Clock::now();
    try {
      const RolloutView view = FetchRollout(api, followed);
      followed = view.configuration.name;  // another may come meanwhile
      answered = Clock::now();
      display.Show(view);
      if (view.AtRest()) return view.Outcome();
    } catch (const kube::TransportError& error) {
      if (stop.stop_requested()) break;
      if (Clock::now() - answered > kPatience) throw;
      display.ShowTrouble(error.what());
    } catch (const kube::ApiError& error) {
      if (error.code() < 500 || Clock::now() - answered > kPatience) throw;
      display.ShowTrouble(error.what());
    }
    // A cluster whose lists take long is asked less often.
    const Clock::duration took = Clock::now() - asked;
    const Clock::duration wait = std::max<Clock::duration>(kLookInterval, 5 * took);
    if (options.timeout.count() > 0 && Clock::now() + wait - begin > options.timeout) break;
    if (!kube::TimeSource::Real().Sleep(wait, stop)) break;
  }
  return ExitCode::kNotFinished;
}

}  // namespace pointsman::plugin
