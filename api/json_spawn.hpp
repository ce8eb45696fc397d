// SPDX-License-Identifier: Apache-2.0
// What a template is asked for (PUT /inox/spawn), on both sides of the socket.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/os.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/machine/machine.hpp"

namespace inox::api {

inline constexpr unsigned most_clones = 10'000; ///< of one request

/// One clone of a request.
struct SpawnAsked {
    ConfigFile names{};                ///< devices, id and socket of the API, serial log, what it may open later
    std::vector<std::string> passed{}; ///< paths in it that are descriptors of the request
    bool paused{false};
    std::optional<RestoredClock> clock{};
};

/// How many clones the body asks for. config_* for what is none.
Result<unsigned> read_spawn_count(std::string_view body);
/// Number `number` of them, from 1: it stands for {n} in each text, and behind an id without that where there are
/// several. "fd:N" in the place of a path is descriptor N of the request, from 0.
Result<SpawnAsked> read_spawn(std::string_view body, unsigned number, unsigned count,
                              std::span<const UniqueFd> descriptors);

/// The body that asks for it. `own`: members that are JSON text already.
std::string spawn_body(const Config& names, const std::vector<std::pair<std::string, std::string>>& own);

} // namespace inox::api
