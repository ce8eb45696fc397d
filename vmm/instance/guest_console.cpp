// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/guest_console.hpp"

#include <unistd.h>
#include <utility>

#include "devices/virtio/console.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox {
namespace {

/// For a line to end in which --expect has matched.
constexpr std::chrono::milliseconds rest_of_line{250};

} // namespace

Result<std::unique_ptr<GuestConsole>> GuestConsole::create(const ConfigFile& file, EventLoop& loop, RunGate& gate,
                                                           Timeline& timeline, ConsoleEvents& events) {
    std::unique_ptr<GuestConsole> console{new GuestConsole{loop, events}};
    console->output_ = std::make_unique<ConsoleOutput>(STDOUT_FILENO, gate, timeline, file.run.console_overflow);
    if (!file.serial.path.empty())
        TRY_VOID(placed(check_output(file.serial.path), "/serial/serial_out_path"));
    if (file.serial.limit)
        console->limiter_ = {{file.serial.limit, std::nullopt}, std::chrono::steady_clock::now()};
    if (!file.run.serial_log.empty())
        TRY_VOID(placed(check_output(file.run.serial_log), "/inox/serial_log"));
    if (!file.run.expect.empty())
        console->output_->expect(
            TRY(Expect::create(file.run.expect)),
            [self = console.get()](ConsoleOutput::Line line) {
                self->loop_.post([self, line, alive = std::weak_ptr{self->alive_}] {
                    if (alive.lock())
                        self->on_seen(line);
                });
            },
            [self = console.get()] {
                self->loop_.post([self, alive = std::weak_ptr{self->alive_}] {
                    if (alive.lock())
                        self->await_prompt();
                });
            });
    if (!file.run.fail_on.empty()) {
        console->findings_ = TRY(Findings::create(file.run.fail_on));
        console->output_->look_for(*console->findings_);
    }
    if (const auto* virtio = device_of<ConsoleConfig>(file.config)) {
        const auto& path = virtio->path;
        if (!path.empty())
            TRY_VOID(placed(check_output(path), "/console/path"));
        console->port_ = std::make_unique<ConsolePort>(loop, *console->output_, path.empty());
    }
    return console;
}

Result<void> GuestConsole::open_outputs(const ConfigFile& file) {
    if (std::exchange(opened_, true))
        return {};
    if (!file.serial.path.empty())
        output_->serial_to(
            TRY(placed(OutputFile::open(file.serial.path, "the serial port's file"), "/serial/serial_out_path")));
    if (!file.run.serial_log.empty())
        output_->log_to(TRY(placed(OutputFile::open(file.run.serial_log, "serial log"), "/inox/serial_log")));
    if (port_ && !port_->on_terminal())
        TRY_VOID(placed(port_->open(device_of<ConsoleConfig>(file.config)->path), "/console/path"));
    return {};
}

void GuestConsole::serial_output(std::span<const std::byte> bytes) {
    if (within_limit(bytes.size()))
        output_->write(bytes);
}

void GuestConsole::on_seen(ConsoleOutput::Line line) {
    events_.on_expected(line);
    if (line == ConsoleOutput::Line::unfinished)
        prompt_timer_ = loop_.after(rest_of_line, [this] { events_.on_expected(ConsoleOutput::Line::ended); });
}

void GuestConsole::await_prompt() {
    prompt_timer_ = loop_.after(Expect::still_for, [this] {
        if (output_->prompt_stays())
            await_prompt();
    });
}

void GuestConsole::on_input_room() {
    if (input_)
        input_->on_room();
}

bool GuestConsole::within_limit(std::size_t bytes) noexcept {
    std::lock_guard lock{limit_mutex_};
    return limiter_.unlimited() || limiter_.spend(bytes, std::chrono::steady_clock::now()).count() == 0;
}

void GuestConsole::connect(Machine& machine) {
    machine_ = &machine;
    if (port_)
        port_->connect(*machine.console());
    resize();
    if (!terminal_) {
        terminal_.emplace(STDIN_FILENO);
        output_->clear_log(); // only a start that succeeded clears it; a reboot appends
    }
    terminal_->take();
    on_input_room();
}

void GuestConsole::disconnect() {
    if (port_)
        port_->disconnect();
    machine_ = nullptr;
}

void GuestConsole::start_input() {
    ConsoleInput::Guest guest{[this](std::span<const std::byte> bytes) -> std::size_t {
                                  if (machine_ == nullptr)
                                      return 0;
                                  return on_virtio() ? machine_->console()->receive(bytes)
                                                     : machine_->serial_input(bytes);
                              },
                              [&events = events_] { events.on_leave(); }, [&events = events_] { events.on_help(); }};
    input_ = std::make_unique<ConsoleInput>(loop_, STDIN_FILENO, *terminal_, std::move(guest));
    input_->start();
}

void GuestConsole::resize() {
    if (machine_ != nullptr && on_virtio())
        machine_->console()->resize(terminal_size(STDIN_FILENO));
}

void GuestConsole::suspend() {
    if (terminal_)
        terminal_->give_back();
}

void GuestConsole::resume() {
    if (terminal_)
        terminal_->forget();
    if (input_)
        input_->look_again();
    resize();
}

void GuestConsole::finish() {
    input_.reset();
    output_->flush();
    terminal_.reset();
    output_->end_line();
    if (findings_)
        findings_->finish();
}

} // namespace inox
