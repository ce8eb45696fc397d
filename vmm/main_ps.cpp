// SPDX-License-Identifier: Apache-2.0
// `inox ps`: the guests of this user that have an id.
#include "api/json_guests.hpp"
#include "vmm/main_command.hpp"
#include "vmm/registry/registry.hpp"

namespace inox::cli {

int ps_command(Arguments arguments) {
    Command command{"inox ps",
                    "Lists your guests that were started with --id. What a killed inox left behind is removed.",
                    "Examples:\n  inox run --id vm1 &\n  inox ps\n  inox ps --json | jq -r .[].id", arguments};
    command.add_switch("--json", "print a JSON array of objects");
    if (const auto over = command.parse())
        return *over;
    std::vector<api::GuestEntry> guests;
    for (auto& guest : registry::running())
        guests.push_back({std::move(guest.id), guest.pid, std::move(guest.socket), guest.age});
    return print_and_finish(command.has("--json") ? api::guests_json(guests) : api::guests_text(guests));
}

} // namespace inox::cli
