// After each reconnection, and after a restart of the database: this node's rows against its
// memory. A node that is not retired is the only one that writes the rows of its sessions. So a row
// that is gone, has another token or a lower number shows that the database went back.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "cluster/frame.h"
#include "cluster/membership.h"
#include "cluster/session.h"

namespace keelback::cluster {

class Claims;
class Commits;

class Compare {
 public:
  Compare(Frame& frame, const Membership& members, Sessions& sessions, Claims& claims,
          Commits& commits)
      : frame_(frame), members_(members), sessions_(sessions), claims_(claims), commits_(commits) {}
  Compare(const Compare&) = delete;
  Compare& operator=(const Compare&) = delete;

  void begin();
  void on(const ForCompare& purpose, const Reply& reply);
  void retired() { expected_.clear(); }
  // A page had no answer: the comparison begins again with the next beat.
  void beat();

 private:
  struct Expected {
    Token token = 0;
    std::uint64_t number = 0;
  };
  void ask(std::string after);
  void compare(const std::string& id, const Expected& expected, const SessionRow* row);

  static constexpr std::uint32_t kPage = 1000;

  Frame& frame_;
  const Membership& members_;
  Sessions& sessions_;
  Claims& claims_;
  Commits& commits_;
  std::uint64_t round_ = 0;
  bool again_ = false;
  std::map<std::string, Expected> expected_;  // as it was when the round began; not compared yet
};

}  // namespace keelback::cluster
