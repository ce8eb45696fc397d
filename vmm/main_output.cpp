// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <unistd.h>

#include "api/service.hpp"
#include "api/socket_file.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/outside/given_socket.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/gdb/server.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/registry/registry.hpp"

namespace inox::cli {

bool print(std::string_view text) { return write_all(STDOUT_FILENO, text).has_value(); }

int print_and_finish(std::string_view text) { return print(text) ? 0 : report_unheard(); }

int report_unheard() {
    return report_problem({Errc::output_unwritable,
                           "cannot write to standard output",
                           "is the disk full, or the reader of the pipe gone?",
                           {},
                           errno});
}

int report_problems(std::span<const Error> problems, const std::string& file) {
    for (Error problem : problems) {
        // Without a place it is about the whole file, or the host: /dev/kvm.
        const bool whole = problem.where.empty() && error_name(problem.code).starts_with("config_");
        if (!file.empty() && (whole || problem.where.starts_with('/')))
            problem.where = printable(file, 200) + (problem.where.empty() ? "" : "#" + problem.where);
        static_cast<void>(write_all(STDERR_FILENO, problem.report())); // nowhere left to complain
    }
    return problems.empty() ? 0 : exit_code(problems.front().code);
}

int report_problem(Error problem) { return report_problems({&problem, 1}); }

void close_inherited(const ConfigFile& file) {
    for (const auto* device : devices_of<VfioConfig>(file.config))
        for (const int fd : {device->open.files.container, device->open.files.group, device->open.files.iommufd,
                             device->open.files.device})
            descriptors::keep(fd);
    for (const int fd : file.run.keep_fds)
        descriptors::keep(fd);
    descriptors::keep(given_socket::number(file.api.socket).value_or(-1));
    descriptors::close_inherited();
}

std::vector<Error> closed_descriptors(const ConfigFile& file) {
    std::vector<Error> problems;
    const auto check = [&](int fd, const std::string& where) {
        if (!descriptors::is_open(fd))
            problems.push_back(error_at(where, Errc::config_value, "descriptor " + std::to_string(fd) + " is not open",
                                        "open it where inox is started, such as " + std::to_string(fd) +
                                            "<>FILE in a shell, or leave it out"));
    };
    for (const int fd : file.run.keep_fds)
        check(fd, "/inox/keep_fds");
    const auto assigned = devices_of<VfioConfig>(file.config);
    for (std::size_t i = 0; i < assigned.size(); ++i) {
        const auto& files = assigned[i]->open.files;
        for (const auto& [fd, key] : {std::pair{files.container, "container_fd"}, std::pair{files.group, "group_fd"},
                                      std::pair{files.iommufd, "iommu_fd"}, std::pair{files.device, "device_fd"}})
            if (fd >= 0)
                check(fd, "/vfio/" + std::to_string(i) + "/" + key);
    }
    return problems;
}

namespace {

constexpr const char* socket_key = "/inox/api_sock";
constexpr const char* group_key = "/inox/api_group";
constexpr const char* id_key = "/inox/id";
constexpr const char* connections_key = "/inox/api_connections";

} // namespace

std::vector<Error> api_problems(const ApiConfig& config) {
    std::vector<Error> problems;
    const auto take = [&](Result<void> checked, const char* where) {
        if (checked)
            return;
        checked.error().where = where;
        problems.push_back(std::move(checked).error());
    };
    if (!config.id.empty())
        take(registry::check(config.id), id_key);
    if (config.socket.empty() && config.id.empty()) {
        const auto useless = [&](const char* what, const char* where) {
            take(fail(Errc::config_value, std::string{what} + " of the API, but it has no socket",
                      "name one with api_sock (--api-sock), or leave this out"),
                 where);
        };
        if (!config.group.empty())
            useless("a group for the clients", group_key);
        if (config.connections)
            useless("a number of clients", connections_key);
        return problems;
    }
    take(api::SocketFile::check_group(config.group), group_key);
    if (!config.socket.empty())
        take(api::SocketFile::check_path(config.socket), socket_key);
    return problems;
}

decltype(RunPlan::companion) control_api(const ApiConfig& config, std::size_t max_body) {
    if (config.socket.empty() && config.id.empty()) {
        const auto problems = api_problems(config);
        if (problems.empty())
            return {};
        return [problem = problems.front()](EventLoop&, Instance&) -> Result<Registration> {
            return std::unexpected<Error>{problem};
        };
    }
    api::ServerOptions options;
    options.path = config.socket;
    options.group = config.group;
    options.max_connections = config.connections.value_or(ApiConfig::usual_connections);
    options.max_body = max_body;
    return [options, id = config.id](EventLoop& loop, Instance& instance) mutable -> Result<Registration> {
        std::optional<registry::Claim> claim;
        if (!id.empty()) {
            const auto given = given_socket::number(options.path);
            auto taken = registry::Claim::take(id, given ? given_socket::path_of(*given) : options.path);
            if (!taken) {
                taken.error().where = id_key;
                return std::unexpected<Error>{std::move(taken).error()};
            }
            if (!given)
                options.path = taken->socket();
            instance.keep_removable(taken->path());
            instance.keep_removable(taken->socket());
            claim.emplace(std::move(*taken));
        }
        auto served = api::serve(options, loop, instance);
        if (!served) {
            served.error().where = !api::SocketFile::check_group(options.group) ? group_key
                                   : options.path.empty()                       ? id_key
                                                                                : socket_key;
            return served;
        }
        if (!claim)
            return served;
        return Registration{[served = std::move(*served), claim = std::move(claim)]() mutable {
            served.reset();
            claim.reset();
        }};
    };
}

namespace {

/// What to type, for a guest that waits.
void say_how_to_connect(const GdbConfig& config) {
    const auto where = config.port != 0 ? format(":%u", config.port) : config.socket;
    tell("inox: the guest waits for GDB: target remote " + where + "\n");
}

} // namespace

std::vector<Error> gdb_problems(const std::optional<GdbConfig>& config) {
    std::vector<Error> problems;
    if (config)
        if (auto checked = gdb::check(*config); !checked)
            problems.push_back(std::move(checked).error());
    return problems;
}

decltype(RunPlan::companion) with_gdb(const ConfigFile& file, decltype(RunPlan::companion) other) {
    if (!file.run.gdb)
        return other;
    return [config = *file.run.gdb, quiet = file.run.quiet,
            other = std::move(other)](EventLoop& loop, Instance& instance) -> Result<Registration> {
        auto beside = other ? TRY(other(loop, instance)) : Registration{};
        auto served = TRY(gdb::serve(config, loop, instance));
        if (config.wait && !quiet)
            say_how_to_connect(config);
        return Registration{[served = std::move(served), beside = std::move(beside)]() mutable {
            served.reset();
            beside.reset();
        }};
    };
}

} // namespace inox::cli
