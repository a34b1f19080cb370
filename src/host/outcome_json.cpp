#include "host/outcome_json.h"

#include <utility>

#include <nlohmann/json.hpp>

namespace keelback::host {
namespace {

using Json = nlohmann::json;

Json object_of(std::string_view outcome, Effect effect, std::string_view message) {
  return {
      {"outcome", outcome}, {"effect", to_string(effect)}, {"reason", ""}, {"message", message}};
}

// Texts of others may be no UTF-8: what is not becomes U+FFFD.
std::string text_of(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string outcome_json(const Outcome& outcome) {
  Json object = object_of(to_string(outcome.kind), outcome.effect, outcome.message);
  object["reason"] = outcome.reason;
  object["call"] = outcome.call;
  if (outcome.python) {
    object["error"] = {{"type", outcome.python->type},
                       {"message", outcome.python->message},
                       {"traceback", outcome.python->traceback}};
  }
  if (outcome.death) {
    object["death"] = {{"cause", outcome.death->cause}, {"detail", outcome.death->detail}};
  }
  if (outcome.retry_after) {
    object["retry_after_s"] = std::chrono::duration<double>(*outcome.retry_after).count();
  }
  return text_of(object);
}

std::string outcome_json(std::string_view outcome, Effect effect, std::string_view message) {
  return text_of(object_of(outcome, effect, message));
}

HostReply reply_of(Outcome&& outcome) {
  HostReply reply;
  reply.ok = outcome.ok();
  if (reply.ok && !outcome.attachments.empty()) {
    reply.ok = false;
    outcome.kind = OutcomeKind::kError;
    outcome.message = "Its result has attachments, which a nested call cannot take.";
  }
  if (reply.ok) {
    reply.result = std::move(outcome.payload);
  } else {
    reply.outcome = outcome_json(outcome);
  }
  return reply;
}

std::string outcome_json(const HostReply& reply) {
  if (!reply.outcome.empty()) return reply.outcome;
  if (reply.dropped) {
    return outcome_json("host_gone", Effect::kMaybe, "Its provider dropped the request.");
  }
  const std::string text = reply.error_type.empty() ? reply.error_message
                                                    : reply.error_type + ": " + reply.error_message;
  Json object = object_of("error", Effect::kDone, text);
  object["error"] = {
      {"type", reply.error_type}, {"message", reply.error_message}, {"traceback", ""}};
  return text_of(object);
}

}  // namespace keelback::host
