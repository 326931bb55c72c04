package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyLimit = 60 * time.Second // for a started program to be ready
	readyEvery = time.Millisecond
	buildLimit = 3 * time.Minute
	stopLimit  = 15 * time.Second
)

// child is another program of ours, which can be killed and weighed.
type child struct {
	cmd   *exec.Cmd
	addr  string
	began time.Time
	wait  func() error
	mu    sync.Mutex
	said  []byte // the end of its standard error
}

// edgeProgram finds the program that is shipped: the one given, or built here from the module around the working directory.
// Where there is neither, this program takes its place and says so, because it weighs more.
func (b *bench) edgeProgram(ctx context.Context) (argv []string, note string, err error) {
	if b.edge != "" {
		return []string{b.edge}, "", nil
	}
	if root, ok := moduleRoot(); ok && !b.short {
		if _, err := exec.LookPath("go"); err == nil {
			ctx, cancel := context.WithTimeout(ctx, buildLimit)
			defer cancel()
			path := filepath.Join(b.dir, "edge-program")
			cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./edge")
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				return nil, "", fmt.Errorf("building the edge: %w: %s", err, text)
			}
			b.edge = path
			return []string{path}, "", nil
		}
	}
	argv, err = selfAs("edge")
	return argv, "simulator in the edge's place", err
}

func selfAs(name string) ([]string, error) {
	self, err := os.Executable()
	return []string{self, "load", childWord, name}, err
}

// moduleRoot looks upwards for our go.mod.
func moduleRoot() (string, bool) {
	dir, err := os.Getwd()
	for err == nil {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			return dir, strings.HasPrefix(string(text), "module kith\n")
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir = up
	}
	return "", false
}

// startChild runs a program until its first line names the address of its pages, and then until /readyz says yes.
func startChild(ctx context.Context, argv []string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, argv[0], append(argv[1:], args...)...)}
	c.cmd.Stderr = c
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.began = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		lines <- line
		io.Copy(io.Discard, r)
	}()
	c.wait = sync.OnceValue(func() error {
		<-drained
		return c.cmd.Wait()
	})
	select {
	case line := <-lines:
		_, rest, _ := strings.Cut(line, "http://")
		c.addr, _, _ = strings.Cut(strings.TrimSpace(rest), "/")
	case <-time.After(readyLimit):
	}
	if c.addr == "" {
		return nil, errors.Join(fmt.Errorf("%s did not say where its pages are: %s", argv[0], c.text()), c.kill())
	}
	return c, nil
}

// Write implements io.Writer for the child's standard error.
func (c *child) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const kept = 2048
	c.said = append(c.said, b...)
	if len(c.said) > kept {
		c.said = append([]byte(nil), c.said[len(c.said)-kept:]...)
	}
	return len(b), nil
}

func (c *child) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.said)
}

// ready waits for /readyz and returns the time since the start of the process.
func (c *child) ready(ctx context.Context) (time.Duration, error) {
	deadline := c.began.Add(readyLimit)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+"/readyz", nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return time.Since(c.began), nil
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return 0, fmt.Errorf("not ready after %v: %s", readyLimit, c.text())
		}
		time.Sleep(readyEvery)
	}
}

// kill is SIGKILL: nothing is written, closed or said.
func (c *child) kill() error {
	err := c.cmd.Process.Kill()
	_ = c.wait() // it was killed; that is what Wait would report
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return err
}

// stop asks it to end in order.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(stopLimit, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	if err := c.wait(); err != nil {
		return fmt.Errorf("stopping: %w: %s", err, c.text())
	}
	return nil
}

// memory reads VmRSS and VmHWM, the resident set now and at its highest, in MiB (proc_pid_status(5)).
func (c *child) memory() (now, most float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	field := func(name string) (float64, error) {
		_, rest, found := strings.Cut(string(text), name+":")
		words := strings.Fields(rest)
		if !found || len(words) == 0 {
			return 0, fmt.Errorf("no %s in the process's status", name)
		}
		kib, err := strconv.ParseFloat(words[0], 64)
		return kib / 1024, err
	}
	if now, err = field("VmRSS"); err != nil {
		return 0, 0, err
	}
	most, err = field("VmHWM")
	return now, most, err
}
