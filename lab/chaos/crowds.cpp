#include "chaos/crowds.h"

#include <algorithm>
#include <map>

namespace keelback::chaos {

std::vector<Crowd> crowds_of(const History& history, Duration end) {
  struct Open {
    Crowd crowd;
    Duration since{0}, busy{0};
    std::uint32_t calls = 0;
    double work = 0;  // seconds of calls

    void advance(Duration at) {
      if (calls == 0 || at <= since) return;
      busy += at - since;
      work += calls * std::chrono::duration<double>(at - since).count();
    }
  };
  std::map<std::uint32_t, Open> workers;
  for (const CrowdEvent& event : history.crowds) {
    Open& worker = workers[event.worker.generation];
    worker.crowd.worker = event.worker;
    worker.advance(event.at);
    worker.since = event.at;
    worker.calls = event.calls;
    worker.crowd.most = std::max(worker.crowd.most, event.calls);
  }
  std::vector<Crowd> out;
  for (auto& [generation, worker] : workers) {
    worker.advance(end);
    if (worker.crowd.most == 0) continue;
    const double busy = std::chrono::duration<double>(worker.busy).count();
    worker.crowd.mean = busy > 0 ? worker.work / busy : worker.crowd.most;
    out.push_back(worker.crowd);
  }
  return out;
}

std::uint32_t most_at_once(const std::vector<Crowd>& crowds) {
  const auto most = std::ranges::max_element(crowds, {}, &Crowd::most);
  return most == crowds.end() ? 0 : most->most;
}

}  // namespace keelback::chaos
