package storm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Times of processes.
const (
	buildLimit = 5 * time.Minute
	verbLimit  = time.Minute      // of one command line
	stopLimit  = 30 * time.Second // of an orderly stop
	startLimit = 30 * time.Second // until a program says that it runs
)

// programs are the two binaries, built once for all tests of a run.
type programs struct{ edge, hub string }

var built = sync.OnceValues(func() (programs, error) {
	dir, err := os.MkdirTemp("", "kith-storm-")
	if err != nil {
		return programs{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir, "./edge", "./hub")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return programs{}, errors.Join(fmt.Errorf("building edge and hub: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return programs{filepath.Join(dir, "edge"), filepath.Join(dir, "hub")}, nil
})

// launch starts processes on one thread that lives as long as this test binary: the kernel then ends what a crashed or
// timed-out test leaves behind (PR_SET_PDEATHSIG looks at the thread that forked).
var launch = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := built(); err == nil && p.edge != "" {
		os.RemoveAll(filepath.Dir(p.edge))
	}
	os.Exit(code)
}

// process is one run of a program.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // after done

	mu  sync.Mutex
	out bytes.Buffer
	up  chan struct{}
}

// Write takes standard output and notices when the program says that it runs.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	if bytes.Contains(p.out.Bytes(), []byte(" is running")) {
		select {
		case <-p.up:
		default:
			close(p.up)
		}
	}
	return len(b), nil
}

// run starts a program whose log goes to a file beside its directory.
func run(t testing.TB, name, log, bin string, args ...string) *process {
	t.Helper()
	p := &process{name: name, done: make(chan struct{}), up: make(chan struct{})}
	p.cmd = exec.Command(bin, args...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout = p
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.cmd.Stderr = f
	started := make(chan error)
	launch() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ready waits until the program says that it runs.
func (p *process) ready(t testing.TB) {
	t.Helper()
	select {
	case <-p.up:
	case <-p.done:
		t.Fatalf("%s ended instead of running: %v", p.name, p.err)
	case <-time.After(startLimit):
		t.Fatalf("%s does not say that it runs after %s", p.name, startLimit)
	}
}

// kill is SIGKILL; it returns when the process is gone. A process that had ended by itself is an error: nothing but the
// storm may end one.
func (p *process) kill() error {
	if !p.alive() {
		return fmt.Errorf("%s had ended by itself: %v", p.name, p.err)
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() {
		return fmt.Errorf("%s had ended by itself: %v", p.name, p.err)
	}
	return nil
}

// stop asks the program to end and wants it to end well.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if !p.alive() {
		t.Fatalf("%s had ended by itself: %v", p.name, p.err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stopping %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		t.Errorf("%s does not stop within %s", p.name, stopLimit)
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to the log
		<-p.done
	}
	if p.err != nil {
		t.Errorf("%s stopped with %v", p.name, p.err)
	}
}

// verb runs one command to its end.
func verb(t testing.TB, bin string, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), verbLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	var text, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &trouble
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return text.String() + trouble.String(), cmd.ProcessState.ExitCode()
}

// mustVerb runs a command that has to succeed.
func mustVerb(t testing.TB, bin string, args ...string) string {
	t.Helper()
	out, code := verb(t, bin, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s", filepath.Base(bin), strings.Join(args, " "), code, out)
	}
	return out
}

// eventually asks until the answer is nil.
func eventually(t testing.TB, within time.Duration, what string, ask func() error) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
