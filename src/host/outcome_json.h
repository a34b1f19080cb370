// How a nested call or a request for a host function ended, as OUTCOME tells it to Python code
// (docs/protocol.md, Calls out of Python).
#pragma once

#include <string>
#include <string_view>

#include "host/provider.h"
#include "keelback/outcome.h"

namespace keelback::host {

std::string outcome_json(const Outcome& outcome);
// A request for a host function that ends without its answer: "host_gone", "cancelled", ….
std::string outcome_json(std::string_view outcome, Effect effect, std::string_view message);
// What a nested call's parent hears of this outcome.
HostReply reply_of(Outcome&& outcome);
// One that its host function has failed.
std::string outcome_json(const HostReply& reply);

}  // namespace keelback::host
