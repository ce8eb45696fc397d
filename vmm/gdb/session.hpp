// SPDX-License-Identifier: Apache-2.0
// One debugger's connection: GDB's remote serial protocol over a Target. All-stop mode, a thread for each vCPU with its
// number plus one as its id.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/gdb/packet.hpp"
#include "vmm/gdb/target.hpp"

namespace inox::gdb {

class Session {
public:
    /// What it asks of its owner.
    struct Owner {
        std::function<void(std::string_view)> send;
        std::function<void()> detached; ///< the client said so; nothing is sent any more
    };
    /// The guest stands still.
    Session(Target& target, Owner owner) : target_{target}, owner_{std::move(owner)} {}

    /// What the client sent.
    void receive(std::span<const std::byte> bytes);
    /// The guest, which ran, stands still now.
    void on_stop(const Stop& stop);
    /// The guest ended.
    void on_end();
    [[nodiscard]] bool running() const { return running_; }

private:
    void handle(const std::string& packet);
    [[nodiscard]] std::string answer(std::string_view packet);
    [[nodiscard]] std::string answer_query(std::string_view packet);
    [[nodiscard]] std::string answer_set(std::string_view packet);
    [[nodiscard]] std::string read_registers() const;
    [[nodiscard]] std::string write_registers(std::string_view text);
    [[nodiscard]] std::string read_register(std::string_view text) const;
    [[nodiscard]] std::string write_register(std::string_view text);
    [[nodiscard]] std::string read_memory(std::string_view text) const;
    [[nodiscard]] std::string write_memory(std::string_view text, bool binary);
    [[nodiscard]] std::string change_breakpoint(std::string_view text, bool insert);
    [[nodiscard]] std::string set_thread(std::string_view text);
    [[nodiscard]] std::string resume(std::string_view actions);
    [[nodiscard]] std::string resume(const Resume& how);
    [[nodiscard]] std::string feature_part(std::string_view range) const;
    [[nodiscard]] std::string thread_list() const;
    [[nodiscard]] std::string offsets() const;
    [[nodiscard]] std::string monitor(std::string_view hex);
    [[nodiscard]] std::optional<unsigned> vcpu_of(std::string_view id) const;
    void reply(std::string_view text);

    Target& target_;
    Owner owner_;
    PacketReader reader_{};
    std::string last_reply_{};
    bool acknowledges_{true};
    bool running_{false};
    bool over_{false};
    unsigned vcpu_{0}; ///< whose registers and memory are asked for
    Stop last_stop_{.why = Stop::Why::step};
};

} // namespace inox::gdb
